"""Reading invites. Nothing here writes; a session on ``outbox.read_only(engine)`` then takes no write lock."""

from collections.abc import Sequence

from sqlalchemy import Connection, collate, select
from sqlalchemy.orm import Session

from assistant_store.invite import COLUMNS, INVITES, Invite, invite_of
from assistant_store.secret import hash_secret
from outbox.driver import plain_rows

_C = INVITES.c

Values = tuple[str | int | None, ...]


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


def rows_by_id(connection: Connection, *, after: str, limit: int) -> Sequence[Values]:
    """The next ``limit`` whole rows in the order of their ids' bytes, as plain tuples in the order of `COLUMNS`."""
    # An adopted table of PostgreSQL may have ids of another collation, and both stores are read side by side.
    id_ = _C.id if connection.dialect.name == "sqlite" else collate(_C.id, "C")
    query = select(INVITES).where(id_ > after).order_by(id_).limit(limit)
    return plain_rows(connection, query)


def rows_of(connection: Connection, ids: Sequence[str]) -> dict[str, Values]:
    rows = [tuple(row) for row in connection.execute(select(INVITES).where(_C.id.in_(ids)))]
    return {str(row[COLUMNS.index("id")]): row for row in rows}
