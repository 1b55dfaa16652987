"""What becomes of a message: added, settled, counted, made pending again, deleted."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from outbox.rows import ForEachRow, ForKeys, Insert

Rows = Sequence[tuple[Any, ...]]

_REFUSED = {"seq": "bigint", "version": "bigint", "enqueued_at": "bigint", "attempts": "bigint", "reason": "text"}

CHANNEL = "outbox_messages"

_INSERT = Insert("outbox_messages", ("topic", "key", "version", "shard", "payload", "origin", "enqueued_at"))


def insert_messages(connection: Connection, rows: Rows) -> None:
    """Adds pending messages: (topic, key, version, shard, payload, origin, enqueued_at)."""
    _INSERT.run(connection, rows)


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
}
# Settled by version and time too: in a database restored from a copy, a ``seq`` may have been given to another message.
_MARK_DELIVERED = ForEachRow(
    """
    UPDATE outbox_messages AS m SET state = 'delivered', attempts = {attempts}, settled_at = {now}
    WHERE m.seq = {seq} AND m.version = {version} AND m.enqueued_at = {enqueued_at}
      AND m.topic = {topic} AND m.key = {key} AND m.state IN ('pending', 'retrying')
    """,
    _DELIVERED,
)
_OPEN = ForKeys(
    """
    SELECT seq, key, version FROM outbox_messages
    WHERE topic = {given} AND key {among} AND state IN ('pending', 'retrying', 'dead')
    """
)
_MARK_SUPERSEDED = ForEachRow(
    "UPDATE outbox_messages SET state = 'superseded', settled_at = {now} WHERE seq = {seq}",
    {"seq": "bigint", "now": "bigint"},
)
_MARK_DELIVERED_AND_SUPERSEDED = ForEachRow(
    """
    UPDATE outbox_messages AS m
    SET state = CASE WHEN m.seq = {seq} THEN 'delivered' ELSE 'superseded' END,
        attempts = CASE WHEN m.seq = {seq} THEN {attempts} ELSE m.attempts END,
        settled_at = {now}
    {from_rows}
    WHERE m.topic = {topic} AND m.key = {key} AND m.version <= {version} AND m.state IN ('pending', 'retrying', 'dead')
      AND (m.seq <> {seq} OR (m.version = {version} AND m.enqueued_at = {enqueued_at} AND m.state <> 'dead'))
    """,
    _DELIVERED,
)
_MARK_RETRYING = ForEachRow(
    """
    UPDATE outbox_messages AS m
    SET state = 'retrying', attempts = {attempts}, last_error = {reason}, available_at = {available_at}
    {from_rows}
    WHERE m.seq = {seq} AND m.version = {version} AND m.enqueued_at = {enqueued_at}
      AND m.state IN ('pending', 'retrying')
    """,
    _REFUSED | {"available_at": "bigint"},
)
_MARK_DEAD = ForEachRow(
    """
    UPDATE outbox_messages AS m
    SET state = 'dead', attempts = {attempts}, last_error = {reason}, settled_at = {now}
    {from_rows}
    WHERE m.seq = {seq} AND m.version = {version} AND m.enqueued_at = {enqueued_at}
      AND m.state IN ('pending', 'retrying')
    """,
    _REFUSED | {"now": "bigint"},
)


def mark_delivered(connection: Connection, rows: Rows) -> None:
    """(seq, topic, key, version, enqueued_at, attempts, now). Every other message of the key, unsettled or dead, that
    is not newer becomes superseded. By version: a later ``seq`` may hold an older state."""
    if connection.dialect.name != "sqlite":
        _MARK_DELIVERED_AND_SUPERSEDED.run(connection, rows)
        return
    # SQLite updates a row found by its seq in one pass, and hardly ever is there another to be superseded.
    _MARK_DELIVERED.run(connection, rows)
    for topic in {row[1] for row in rows}:
        settled = {key: (seq, version, now) for seq, of, key, version, _, _, now in rows if of == topic}
        _supersede(connection, settled, _OPEN.run(connection, settled, topic))


def _supersede(connection: Connection, settled: Mapping[str, tuple[int, int, int]], others: Iterable[Row[Any]]) -> None:
    """``settled``: by key, (seq, version, now) of what was delivered."""
    old = []
    for other in others:
        seq, version, now = settled[other.key]
        if other.seq != seq and other.version <= version:
            old.append((other.seq, now))
    _MARK_SUPERSEDED.run(connection, old)


def mark_retrying(connection: Connection, rows: Rows) -> None:
    """(seq, version, enqueued_at, attempts, reason, available_at)."""
    _MARK_RETRYING.run(connection, rows)


def mark_dead(connection: Connection, rows: Rows) -> None:
    """(seq, version, enqueued_at, attempts, reason, now)."""
    _MARK_DEAD.run(connection, rows)


def set_attempts(connection: Connection, seq: int, attempts: int, reason: str | None) -> None:
    connection.execute(
        text(
            """
            UPDATE outbox_messages SET attempts = :attempts, last_error = :reason
            WHERE seq = :seq AND state IN ('pending', 'retrying')
            """
        ),
        {"seq": seq, "attempts": attempts, "reason": reason},
    )


def delete_settled_before(connection: Connection, cutoff: int, limit: int) -> int:
    """Deletes up to ``limit`` delivered and superseded messages settled before ``cutoff``; returns how many."""
    return connection.execute(
        text(
            """
            DELETE FROM outbox_messages WHERE seq IN (
                SELECT seq FROM outbox_messages
                WHERE state IN ('delivered', 'superseded') AND settled_at < :cutoff
                ORDER BY settled_at LIMIT :limit)
            """
        ),
        {"cutoff": cutoff, "limit": limit},
    ).rowcount


def revive_dead(connection: Connection, seq: int, now: int) -> int:
    """Makes a dead letter pending as if enqueued now, and all others of its key; returns how many."""
    # Its key stays in the database: read and given back it could be another's.
    return connection.execute(
        text(
            """
            UPDATE outbox_messages
            SET state = 'pending', attempts = 0, available_at = NULL, settled_at = NULL, enqueued_at = :now
            WHERE (topic, key) = (SELECT topic, key FROM outbox_messages WHERE seq = :seq AND state = 'dead')
              AND state = 'dead' AND state IN ('pending', 'retrying', 'dead')
            """
        ),
        {"seq": seq, "now": now},
    ).rowcount
