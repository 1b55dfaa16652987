"""A batch of which the table refuses some rows: all others are mirrored, and each of these says why."""

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway_store.apply import Locked, Parsed, Result, apply, lock, with_first_created_at
from gateway_store.contacts import known_contacts
from gateway_store.errors import MirrorRefusedError, StoredRowError
from gateway_store.halving import by_halves
from gateway_store.invite import TABLE, Invite
from gateway_store.merge import closing, merge
from gateway_store.read import known_invites
from outbox.driver import is_of_a_row
from outbox.encoding import explained
from outbox.rows import ForEachRow

_CLOSING = {
    "id": "text",
    "status": "text",
    "use_count": "bigint",
    "redeemed_by_external_user_id": "text",
    "redeemed_by_external_chat_id": "text",
    "redeemed_at": "bigint",
}
_CLOSE = ForEachRow(
    f"""
    UPDATE {TABLE} AS i
    SET status = {{status}}, use_count = {{use_count}}, redeemed_at = {{redeemed_at}},
        redeemed_by_external_user_id = {{redeemed_by_external_user_id}},
        redeemed_by_external_chat_id = {{redeemed_by_external_chat_id}}
    {{from_rows}} WHERE i.id = {{id}}
    """,  # noqa: S608 - names of our own
    _CLOSING,
)


class OvertakenError(MirrorRefusedError):
    """Another relay added the row after this one had looked for it; it is to be merged with, in another try."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Row(NamedTuple):
    number: int
    """In the batch."""
    invite: Invite


def mirror_in_halves(connection: Connection, parsed: Sequence[Parsed], first_created_at_wins: bool) -> list[Result]:
    """A result each, in order; `OvertakenError` for those to be tried again.

    All that is there already is locked before anything is written, and new rows are added in the order of their ids:
    so two relays wait for each other in turn, whatever the halves.
    """
    results: dict[int, Result] = {
        number: one for number, one in enumerate(parsed) if isinstance(one, MirrorRefusedError)
    }
    rows = [_Row(number, one) for number, one in enumerate(parsed) if isinstance(one, Invite)]
    rows.sort(key=lambda row: row.invite.id)

    def refuse(row: _Row, error: Exception) -> None:
        results[row.number] = _refusal(connection, error)

    locked = _locked(connection, rows)
    if locked is None:
        # An id with text that the database has no characters for cannot even be asked for.
        by_halves(connection, rows, lambda part: _ask(connection, part), refuse)
        rows = [row for row in rows if row.number not in results]
        locked = lock(connection, [row.invite for row in rows])

    def write(part: Sequence[_Row]) -> None:
        found = apply(connection, locked, [row.invite for row in part], first_created_at_wins)
        results.update(zip((row.number for row in part), found, strict=True))

    def refuse_and_close(row: _Row, error: Exception) -> None:
        stored = locked.invites.get(row.invite.id)
        if stored is not None:
            incoming = with_first_created_at(row.invite, locked.invites) if first_created_at_wins else row.invite
            results[row.number] = _refusal(connection, error, _close(connection, locked, stored, incoming))
        elif known_invites(connection, [row.invite.id]):
            results[row.number] = OvertakenError(error)
        else:
            refuse(row, error)

    by_halves(connection, rows, write, refuse_and_close)
    return [results[number] for number in range(len(parsed))]


def _locked(connection: Connection, rows: Sequence[_Row]) -> Locked | None:
    try:
        with connection.begin_nested():
            return lock(connection, [row.invite for row in rows])
    except DBAPIError as error:
        if not is_of_a_row(error):
            raise
        return None


def _ask(connection: Connection, part: Sequence[_Row]) -> None:
    known_contacts(connection, [row.invite.contact_id for row in part])
    known_invites(connection, [row.invite.id for row in part])


def _refusal(connection: Connection, error: Exception, more: str = "") -> StoredRowError:
    if isinstance(error, StoredRowError):
        return error
    return StoredRowError(f"the gateway's table refuses the row: {explained(connection, error)}{more}")


def _close(connection: Connection, locked: Locked, stored: Invite, incoming: Invite) -> str:
    """Takes over what closes the invite, if anything does, and says so: a note that the table refuses must not keep a
    revoked invite open."""
    closed = closing(stored, merge(stored, incoming))
    if closed == stored:
        return ""
    try:
        with connection.begin_nested():
            _CLOSE.run(connection, [tuple(getattr(closed, name) for name in _CLOSING)])
    except DBAPIError as error:
        if not is_of_a_row(error):
            raise
        return "; nor does it take its status and use count alone"
    locked.invites[stored.id] = closed
    return f"; only its status ({closed.status}) and use count ({closed.use_count}) were taken over"
