"""Reading the mirror. Nothing here writes; a session on ``outbox.read_only(engine)`` then takes no write lock."""

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, collate, select
from sqlalchemy.orm import Session

from gateway_store.invite import COLUMNS, INVITES, TABLE, Invite, invite_of
from outbox.driver import plain_rows
from outbox.rows import ForKeys

_BY_IDS = ForKeys(f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE id {{among}}")  # noqa: S608 - names of our own
_TO_MERGE = ForKeys(f"SELECT {', '.join(COLUMNS)} FROM {TABLE} WHERE id {{among}} ORDER BY id {{lock}}")  # noqa: S608
_CLOSED = ForKeys("SELECT id, status, use_count FROM ingress_invites_closed WHERE id {among}")

Values = tuple[str | int | None, ...]


def get_invite(session: Session, invite_id: str) -> Invite | None:
    row = session.execute(select(INVITES).where(INVITES.c.id == invite_id)).one_or_none()
    return None if row is None else invite_of(row)


def invites_to_merge(connection: Connection, ids: Iterable[str]) -> dict[str, Invite]:
    """Those that are there, locked in the order of their ids until the transaction ends."""
    return {invite.id: invite for invite in map(invite_of, _TO_MERGE.run(connection, ids))}


def closed_before(connection: Connection, ids: Iterable[str]) -> dict[str, tuple[str, int]]:
    """Status and use count that invites had when they were deleted, of those that were not plainly active."""
    return {row.id: (row.status, row.use_count) for row in _CLOSED.run(connection, ids)}


def rows_by_id(connection: Connection, *, after: str, limit: int) -> Sequence[Values]:
    """The next ``limit`` whole rows in the order of their ids' bytes, as plain tuples in the order of `COLUMNS`."""
    # An adopted table of PostgreSQL may have ids of another collation, and both stores are read side by side.
    id_ = INVITES.c.id if connection.dialect.name == "sqlite" else collate(INVITES.c.id, "C")
    query = select(INVITES).where(id_ > after).order_by(id_).limit(limit)
    return plain_rows(connection, query)


def rows_of(connection: Connection, ids: Sequence[str]) -> dict[str, Values]:
    return {row.id: tuple(row) for row in _BY_IDS.run(connection, ids)}
