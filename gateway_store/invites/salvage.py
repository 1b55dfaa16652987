"""What is taken over of an invite that the table refuses to change as a whole: that it is closed, if it is."""

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway_store.invites.invite import TABLE, Invite
from gateway_store.invites.merge import closing, merge
from outbox.database.driver import is_of_a_row
from outbox.database.rows import ForEachRow
from outbox.mirroring.entity import Locked

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


def close_alone(connection: Connection, locked: Locked[Invite], incoming: Invite) -> str:
    """Takes over what closes the invite, if anything does, and says so: a note that the table refuses must not keep a
    revoked invite open."""
    stored = locked.rows[incoming.id]
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
    locked.rows[stored.id] = closed
    return f"; only its status ({closed.status}) and use count ({closed.use_count}) were taken over"
