"""What becomes of a message: added, settled, counted, made pending again, deleted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from outbox.database.rows import ForEachRow, ForKeys, Insert
from outbox.message import DROPPED, MAX_KEPT_BYTES, Destination

Rows = Sequence[tuple[Any, ...]]

_REFUSED = {
    "seq": "bigint",
    "version": "bigint",
    "enqueued_at": "bigint",
    "attempts": "bigint",
    "reason": "text",
    "refused_for_ms": "bigint",
    "now": "bigint",
}

CHANNEL = "outbox_messages"

_COLUMNS = ("topic", "key", "version", "shard", "payload", "origin", "enqueued_at")
# The gateway's say no destination: so a daemon goes on enqueueing while its database has the schema of 0.1.0.
_INSERT = {
    Destination.GATEWAY: Insert("outbox_messages", _COLUMNS),
    Destination.ASSISTANT: Insert("outbox_messages", (*_COLUMNS, "destination")),
}


def insert_messages(connection: Connection, destination: Destination, rows: Rows) -> None:
    """Adds pending messages: (topic, key, version, shard, payload, origin, enqueued_at)."""
    if destination is not Destination.GATEWAY:
        rows = [(*row, destination.value) for row in rows]
    _INSERT[destination].run(connection, rows)


def notify(connection: Connection) -> None:
    """PostgreSQL only: at the commit, and only then, whoever listens is woken; many of one transaction are one."""
    connection.exec_driver_sql(f"NOTIFY {CHANNEL}")


_DELIVERED = {
    "seq": "bigint",
    "topic": "text",
    "key": "text",
    "version": "bigint",
    "enqueued_at": "bigint",
    "attempts": "bigint",
    "now": "bigint",
    "destination": "text",
}
# Settled by version and time too: in a database restored from a copy, a ``seq`` may have been given to another message.
_MARK_DELIVERED = ForEachRow(
    """
    UPDATE outbox_messages AS m SET state = 'delivered', attempts = {attempts}, settled_at = {now}
    WHERE m.seq = {seq} AND m.version = {version} AND m.enqueued_at = {enqueued_at}
      AND m.destination = {destination} AND m.topic = {topic} AND m.key = {key} AND m.state IN ('pending', 'retrying')
    """,
    _DELIVERED,
)
_OPEN = ForKeys(
    """
    SELECT seq, key, version FROM outbox_messages
    WHERE destination = {given} AND topic = {given} AND key {among} AND state IN ('pending', 'retrying', 'dead')
    """
)
_MARK_SUPERSEDED = ForEachRow(
    "UPDATE outbox_messages SET state = 'superseded', settled_at = {now} WHERE seq = {seq}",
    {"seq": "bigint", "now": "bigint"},
)
_DROP_PAYLOADS = ForEachRow(
    f"""
    UPDATE outbox_messages SET payload = '', last_error = NULL
    WHERE seq = {{seq}} AND octet_length(payload) > {MAX_KEPT_BYTES}
    """,  # noqa: S608 - a constant
    {"seq": "bigint"},
)
_MARK_DELIVERED_AND_SUPERSEDED = ForEachRow(
    """
    UPDATE outbox_messages AS m
    SET state = CASE WHEN m.seq = {seq} THEN 'delivered' ELSE 'superseded' END,
        attempts = CASE WHEN m.seq = {seq} THEN {attempts} ELSE m.attempts END,
        settled_at = {now}
    {from_rows}
    WHERE m.destination = {destination} AND m.topic = {topic} AND m.key = {key}
      AND (m.version, m.seq) <= ({version}, {seq}) AND m.state IN ('pending', 'retrying', 'dead')
      AND (m.seq <> {seq} OR (m.version = {version} AND m.enqueued_at = {enqueued_at} AND m.state <> 'dead'))
    """,
    _DELIVERED,
)
_MARK_RETRYING = ForEachRow(
    """
    UPDATE outbox_messages AS m
    SET state = 'retrying', attempts = {attempts}, last_error = {reason}, available_at = {available_at},
        refused_for_ms = {refused_for_ms}, refused_at = {now}
    {from_rows}
    WHERE m.seq = {seq} AND m.version = {version} AND m.enqueued_at = {enqueued_at}
      AND m.destination = {destination} AND m.state IN ('pending', 'retrying')
    """,
    _REFUSED | {"available_at": "bigint", "destination": "text"},
)
_MARK_DEAD = ForEachRow(
    """
    UPDATE outbox_messages AS m
    SET state = 'dead', attempts = {attempts}, last_error = {reason}, settled_at = {now},
        refused_for_ms = {refused_for_ms}
    {from_rows}
    WHERE m.seq = {seq} AND m.version = {version} AND m.enqueued_at = {enqueued_at}
      AND m.destination = {destination} AND m.state IN ('pending', 'retrying')
    """,
    _REFUSED | {"destination": "text"},
)


def mark_delivered(connection: Connection, destination: Destination, rows: Rows) -> None:
    """(seq, topic, key, version, enqueued_at, attempts, now). Every other message of the key, unsettled or dead, that
    is not newer becomes superseded.

    By version, and only between equal versions by ``seq``: a later ``seq`` may hold an older state.
    """
    if connection.dialect.name != "sqlite":
        _MARK_DELIVERED_AND_SUPERSEDED.run(connection, _for(destination, rows))
        return
    # SQLite updates a row found by its seq in one pass, and hardly ever is there another to be superseded.
    _MARK_DELIVERED.run(connection, _for(destination, rows))
    for topic in {row[1] for row in rows}:
        settled = {key: (seq, version, now) for seq, of, key, version, _, _, now in rows if of == topic}
        _supersede(connection, settled, _OPEN.run(connection, settled, destination.value, topic))


def _for(destination: Destination, rows: Rows) -> Rows:
    return [(*row, destination.value) for row in rows]


def _supersede(connection: Connection, settled: Mapping[str, tuple[int, int, int]], others: Iterable[Row[Any]]) -> None:
    """``settled``: by key, (seq, version, now) of what was delivered."""
    old = []
    for other in others:
        seq, version, now = settled[other.key]
        if (other.version, other.seq) < (version, seq):
            old.append((other.seq, now))
    drop_large_payloads(connection, [seq for seq, _ in old])
    _MARK_SUPERSEDED.run(connection, old)


def drop_large_payloads(connection: Connection, seqs: Iterable[int]) -> None:
    """SQLite only: of messages about to be settled. It writes a changed row anew, and would need twice the payload's
    size in memory for one that it only copies."""
    if connection.dialect.name == "sqlite":
        _DROP_PAYLOADS.run(connection, [(seq,) for seq in seqs])


def mark_retrying(connection: Connection, destination: Destination, rows: Rows) -> None:
    """(seq, version, enqueued_at, attempts, reason, refused_for_ms, now, available_at)."""
    _MARK_RETRYING.run(connection, _for(destination, rows))


def mark_dead(connection: Connection, destination: Destination, rows: Rows) -> None:
    """(seq, version, enqueued_at, attempts, reason, refused_for_ms, now)."""
    _MARK_DEAD.run(connection, _for(destination, rows))


def set_attempts(connection: Connection, destination: Destination, seq: int, attempts: int, crashes: int) -> None:
    connection.execute(
        text(
            """
            UPDATE outbox_messages SET attempts = :attempts, crashes = :crashes
            WHERE seq = :seq AND destination = :destination AND state IN ('pending', 'retrying')
            """
        ),
        {"seq": seq, "destination": destination.value, "attempts": attempts, "crashes": crashes},
    )


def delete_settled_before(connection: Connection, destination: Destination, cutoff: int, limit: int) -> int:
    """Deletes up to ``limit`` delivered and superseded messages settled before ``cutoff``; returns how many.

    Never one that a person dropped: it was not delivered, and who dropped it and why stays to be read.
    """
    return connection.execute(
        text(
            f"""
            DELETE FROM outbox_messages WHERE seq IN (
                SELECT seq FROM outbox_messages
                WHERE destination = :destination AND state IN ('delivered', 'superseded') AND settled_at < :cutoff
                  AND substr(coalesce(last_error, ''), 1, {len(DROPPED)}) <> '{DROPPED}'
                ORDER BY settled_at LIMIT :limit)
            """  # noqa: S608 - constants
        ),
        {"destination": destination.value, "cutoff": cutoff, "limit": limit},
    ).rowcount


def revive_dead(connection: Connection, seq: int, now: int) -> int:
    """Makes a dead letter pending as if enqueued now, and all others of its key; returns how many."""
    # Its key stays in the database: read and given back it could be another's.
    return connection.execute(
        text(
            """
            UPDATE outbox_messages
            SET state = 'pending', attempts = 0, available_at = NULL, settled_at = NULL, enqueued_at = :now,
                refused_for_ms = 0, refused_at = NULL, crashes = 0
            WHERE (destination, topic, key) = (
                SELECT destination, topic, key FROM outbox_messages WHERE seq = :seq AND state = 'dead')
              AND state = 'dead' AND state IN ('pending', 'retrying', 'dead')
            """
        ),
        {"seq": seq, "now": now},
    ).rowcount


_DROP = """
    UPDATE outbox_messages SET state = 'superseded', settled_at = :now, last_error = :reason
    WHERE (destination, topic, key) = (
        SELECT destination, topic, key FROM outbox_messages WHERE seq = :seq AND state = 'dead')
      AND (version, seq) <= (SELECT version, seq FROM outbox_messages WHERE seq = :seq)
      AND state IN ({states}) AND state IN ('pending', 'retrying', 'dead')
"""
_DROP_WAITING = text(_DROP.format(states="'pending', 'retrying'"))
_DROP_DEAD = text(_DROP.format(states="'dead'"))


def drop_dead(connection: Connection, seq: int, reason: str, now: int) -> tuple[int, int]:
    """Settles a dead letter that is not to be delivered, and all of its key that is not newer; returns how many of them
    were dead, and how many waited."""
    given = {"seq": seq, "reason": reason, "now": now}
    # In this order: without the dead one nothing says what is older.
    waited = connection.execute(_DROP_WAITING, given).rowcount
    return connection.execute(_DROP_DEAD, given).rowcount, waited
