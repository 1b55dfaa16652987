"""Reading the mirror. Nothing here writes; a session on ``outbox.read_only(engine)`` then takes no write lock."""

from collections.abc import Iterable

from sqlalchemy import Connection, select
from sqlalchemy.orm import Session

from gateway_store.invites.invite import COLUMNS, INVITES, TABLE, Invite, invite_of
from outbox.database.rows import ForKeys
from outbox.pages import Pages

_TO_MERGE = ForKeys(f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE id {{among}} ORDER BY id {{lock}}")  # noqa: S608
_KNOWN = ForKeys(f"SELECT id FROM {TABLE} WHERE id {{among}}", lock="")  # noqa: S608
_CLOSED = ForKeys("SELECT id, status, use_count FROM ingress_invites_closed WHERE id {among}")


def get_invite(session: Session, invite_id: str) -> Invite | None:
    row = session.execute(select(INVITES).where(INVITES.c.id == invite_id)).one_or_none()
    return None if row is None else invite_of(row)


def invites_to_merge(connection: Connection, ids: Iterable[str]) -> dict[str, Invite]:
    """Those that are there, locked in the order of their ids until the transaction ends."""
    return {invite.id: invite for invite in map(invite_of, _TO_MERGE.run(connection, ids))}


def known_invites(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Those of ``ids`` that are there; nothing is locked."""
    return {row.id for row in _KNOWN.run(connection, ids)}


def closed_before(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[object, object]]:
    """Status and use count that invites had when they were deleted, of those that were not plainly active, whatever
    somebody has made of them since."""
    return {row.id: (row.status, row.use_count) for row in _CLOSED.run(connection, ids)}


PAGES = Pages(INVITES)
"""Whole rows, in the order of `COLUMNS`, for comparing."""
