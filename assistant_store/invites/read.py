"""Reading invites. Nothing here writes; a session on ``outbox.read_only(engine)`` then takes no write lock."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from assistant_store.invites.invite import INVITES, Invite, invite_of
from assistant_store.invites.secret import hash_secret
from outbox.pages import Pages

_C = INVITES.c


def get_invite(session: Session, invite_id: str) -> Invite | None:
    row = session.execute(select(INVITES).where(_C.id == invite_id)).one_or_none()
    return None if row is None else invite_of(row)


def find_invite_by_token(session: Session, raw_token: str) -> Invite | None:
    """The invite that a raw token was issued for, whatever its status: the caller decides what an old one is worth."""
    row = session.execute(select(INVITES).where(_C.token_hash == hash_secret(raw_token)).order_by(_C.id)).first()
    return None if row is None else invite_of(row)


def list_invites(
    session: Session,
    *,
    status: str | None = None,
    source_channel: str | None = None,
    contact_id: str | None = None,
    limit: int = 1_000,
) -> list[Invite]:
    """Invites that match all that is given, oldest first, at most ``limit``."""
    wanted = {"status": status, "source_channel": source_channel, "contact_id": contact_id}
    query = select(INVITES).where(*(_C[name] == value for name, value in wanted.items() if value is not None))
    return [invite_of(row) for row in session.execute(query.order_by(_C.created_at, _C.id).limit(limit))]


PAGES = Pages(INVITES)
"""Whole rows, in the order of `COLUMNS`, for comparing and for enqueueing them again."""
