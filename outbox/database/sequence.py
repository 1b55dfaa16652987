"""The numbers of messages: lifted where rows came without their sequence, and freed where no number is left."""

from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from outbox.errors import SequenceError

# Counting never gets here; only a row or a sequence that somebody set by hand is beyond.
_BEYOND_COUNTING = 2**62
_LARGEST = 2**63 - 1

_BEHIND = (
    "the outbox's sequence is behind its messages, as after a restore or a replication of rows alone; "
    "nothing was enqueued. Run `relay init`, which lifts it"
)
_USED_UP = (
    "the outbox has no number left, because a message or its sequence has the largest there is; "
    "nothing was enqueued. Run `relay init`, which gives ordinary numbers again"
)
_UNIQUE_VIOLATION, _LIMIT_EXCEEDED = "23505", "2200H"
_PRIMARY_KEY = "outbox_messages_pkey"
_SQLITE_FULL = 13

_LAST = text(
    """
    SELECT (SELECT max(seq) FROM outbox_messages WHERE seq <= :beyond) AS used,
        pg_sequence_last_value(CAST(pg_get_serial_sequence('outbox_messages', 'seq') AS regclass)) AS given_out
    """
)
_SET = text("SELECT setval(CAST(pg_get_serial_sequence('outbox_messages', 'seq') AS regclass), :used, :is_called)")


def lift_sequence(connection: Connection) -> None:
    """So that the next message gets a number that no message has, in a transaction that may write.

    A sequence that counting has reached is never lowered.
    """
    if connection.dialect.name == "sqlite":
        _bring_back(connection)
    elif _wanted(connection) is not None:
        # Nobody is given a number before it has its lock on the table.
        connection.exec_driver_sql("LOCK TABLE outbox_messages IN SHARE ROW EXCLUSIVE MODE")
        used = _wanted(connection)
        if used is not None:
            connection.execute(_SET, {"used": max(used, 1), "is_called": used > 0})


def _wanted(connection: Connection) -> int | None:
    """The number that the sequence should have given out last, unless it is past it."""
    used, given_out = connection.execute(_LAST, {"beyond": _BEYOND_COUNTING}).one()
    is_behind = used is not None and (given_out is None or given_out < used)
    return (used or 0) if is_behind or (given_out or 0) > _BEYOND_COUNTING else None


def _bring_back(connection: Connection) -> None:
    """SQLite goes on from the largest number there is or was, by itself; from the last one it cannot go on."""
    beyond = connection.exec_driver_sql(
        "SELECT seq FROM outbox_messages WHERE seq > ? ORDER BY seq", (_BEYOND_COUNTING,)
    ).scalars()
    used = connection.exec_driver_sql(
        "SELECT coalesce(max(seq), 0) FROM outbox_messages WHERE seq <= ?", (_BEYOND_COUNTING,)
    ).scalar_one()
    for number, seq in enumerate(beyond.all(), max(used, 0) + 1):
        connection.exec_driver_sql("UPDATE outbox_messages SET seq = ? WHERE seq = ?", (number, seq))
    connection.exec_driver_sql(
        "UPDATE sqlite_sequence SET seq = (SELECT coalesce(max(seq), 0) FROM outbox_messages) "
        "WHERE name = 'outbox_messages' AND seq > ?",
        (_BEYOND_COUNTING,),
    )


def sequence_error(connection: Connection, error: DBAPIError) -> SequenceError | None:
    """What an INSERT of messages failed by, if it was their numbers; the message names the cure."""
    found: Any = error.orig
    if connection.dialect.name == "sqlite":
        is_full = getattr(found, "sqlite_errorcode", None) == _SQLITE_FULL
        return SequenceError(_USED_UP) if is_full and _is_used_up(connection) else None
    code = getattr(found, "sqlstate", None)
    if code == _LIMIT_EXCEEDED:
        return SequenceError(_USED_UP)
    broken = getattr(getattr(found, "diag", None), "constraint_name", None)
    return SequenceError(_BEHIND) if code == _UNIQUE_VIOLATION and broken == _PRIMARY_KEY else None


def _is_used_up(connection: Connection) -> bool:
    """Or else it is the disk that is full."""
    asked = (
        "SELECT max(coalesce((SELECT max(seq) FROM outbox_messages), 0),"
        " coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'outbox_messages'), 0))"
    )
    return bool(connection.exec_driver_sql(asked).scalar_one() == _LARGEST)
