"""Every SQL statement on the outbox's tables, one a function, named for what it does.

States stand as literals, never as parameters: a partial index is used only where its condition is seen in the text.
All run in the caller's transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, TextClause, bindparam, text
from sqlalchemy.orm import Session

from outbox.clock import now_ms
from outbox.message import Message
from outbox.rows import ForEachRow, ForKeys

Row = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]

_REFUSED = {"seq": "bigint", "version": "bigint", "enqueued_at": "bigint", "attempts": "bigint", "reason": "text"}

_MESSAGE = """
    m.seq, m.topic, m.key, m.version, m.shard, m.payload, m.origin, m.enqueued_at, m.state, m.attempts, m.last_error,
    (SELECT n.seq FROM outbox_messages AS n
     WHERE n.topic = m.topic AND n.key = m.key AND n.version > m.version AND n.state = 'dead'
       AND n.state IN ('pending', 'retrying', 'dead')
     ORDER BY n.version DESC LIMIT 1) AS newer_dead_seq
"""
# An older message of a key waits until the newest is settled: it would mirror a state known to be old.
_NEWEST_OF_ITS_KEY = """
    NOT EXISTS (SELECT 1 FROM outbox_messages AS n
                WHERE n.topic = m.topic AND n.key = m.key AND n.version > m.version
                  AND n.state IN ('pending', 'retrying') AND n.state IN ('pending', 'retrying', 'dead'))
"""

CHANNEL = "outbox_messages"
# An advisory lock's number; any will do that nobody else in the database uses.
_SHARING_OUT = 0x6F7574626F78

_INSERT = ForEachRow(
    "INSERT INTO outbox_messages (topic, key, version, shard, payload, origin, enqueued_at) {values}",
    {
        "topic": "text",
        "key": "text",
        "version": "bigint",
        "shard": "bigint",
        "payload": "text",
        "origin": "text",
        "enqueued_at": "bigint",
    },
)


def insert_messages(connection: Connection, rows: Rows) -> None:
    """Adds pending messages: (topic, key, version, shard, payload, origin, enqueued_at)."""
    _INSERT.run(connection, rows)


def notify(connection: Connection) -> None:
    """PostgreSQL only: at the commit, and only then, whoever listens is woken; many of one transaction are one."""
    connection.exec_driver_sql(f"NOTIFY {CHANNEL}")


def count_unsettled_up_to(session: Session, limit: int) -> int:
    """The number of unsettled messages, counted no further than ``limit``."""
    return int(
        session.execute(
            text(
                """
                SELECT count(*) FROM (SELECT 1 FROM (
                    SELECT seq FROM outbox_messages WHERE state = 'pending'
                    UNION ALL SELECT seq FROM outbox_messages WHERE state = 'retrying') AS unsettled LIMIT :limit) AS c
                """
            ),
            {"limit": limit},
        ).scalar_one()
    )


def _due(order: str, *conditions: str) -> TextClause:
    """Messages that meet one of the conditions, those of the first before those of the second, each in ``order``.

    At most ``:limit``, and no more once their payloads have ``:max_bytes``.
    """
    parts = [
        f"""
        SELECT * FROM (
            SELECT {number} AS part, {_MESSAGE}, m.available_at FROM outbox_messages AS m
            WHERE {condition} AND m.shard IN :shards AND {_NEWEST_OF_ITS_KEY} ORDER BY {order} LIMIT :limit
        ) AS part_{number}
        """  # noqa: S608 - constants
        for number, condition in enumerate(conditions)
    ]
    return text(
        f"""
        SELECT {", ".join(Message.__slots__)} FROM (
            SELECT due.*, sum(length(payload)) OVER (ROWS UNBOUNDED PRECEDING) - length(payload) AS before
            FROM (SELECT * FROM ({" UNION ALL ".join(parts)}) AS parts LIMIT :limit) AS due
        ) AS counted WHERE before < :max_bytes ORDER BY part, {order}
        """  # noqa: S608 - constants
    ).bindparams(bindparam("shards", expanding=True))


_PENDING = _due(
    "seq",
    "m.state = 'pending' AND m.origin = 'live' AND m.seq >= :live_from",
    "m.state = 'pending' AND m.origin = 'replay' AND m.seq >= :replay_from",
)
_RETRIES_DUE = _due(
    "available_at, seq",
    "m.state = 'retrying' AND m.available_at <= :now",
    "m.state = 'retrying' AND m.available_at > :too_far",
)

_ONE_UNSETTLED = text(
    f"""
    SELECT {_MESSAGE} FROM outbox_messages AS m
    WHERE m.seq = :seq AND m.state IN ('pending', 'retrying') AND {_NEWEST_OF_ITS_KEY}
    """  # noqa: S608 - constants above
)


def pending(
    connection: Connection,
    shards: Iterable[int],
    limit: int,
    max_bytes: int,
    *,
    live_from: int = 0,
    replay_from: int = 0,
) -> list[Message]:
    """Messages never tried, live before replay, oldest first; at most ``limit``, and about ``max_bytes`` of payload.

    Those of a ``seq`` below ``live_from`` or ``replay_from`` are passed over.
    """
    given = {"shards": list(shards), "limit": limit, "max_bytes": max_bytes}
    rows = connection.execute(_PENDING, given | {"live_from": live_from, "replay_from": replay_from})
    return [Message(*row) for row in rows]


def under_way(connection: Connection) -> tuple[int, int, int]:
    """PostgreSQL only: the oldest transaction that had not ended when the snapshot was taken, the first that had not
    begun, and the highest ``seq`` given out by now."""
    row = connection.exec_driver_sql(
        """
        SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint,
            pg_snapshot_xmax(pg_current_snapshot())::text::bigint, last_value FROM outbox_messages_seq_seq
        """
    ).one()
    return row[0], row[1], row[2]


def retries_due(
    connection: Connection, shards: Iterable[int], limit: int, max_bytes: int, *, now: int, too_far: int
) -> list[Message]:
    """Messages refused before whose wait is over, longest due first. A due time beyond ``too_far`` counts as over."""
    given = {"shards": list(shards), "limit": limit, "max_bytes": max_bytes, "now": now, "too_far": too_far}
    return [Message(*row) for row in connection.execute(_RETRIES_DUE, given)]


def one_unsettled(connection: Connection, seq: int) -> Message | None:
    """The message if it still waits and is the newest of its key."""
    row = connection.execute(_ONE_UNSETTLED, {"seq": seq}).one_or_none()
    return None if row is None else Message(*row)


# Settled by version and time too: in a database restored from a copy, a ``seq`` may have been given to another message.
_MARK_DELIVERED = ForEachRow(
    """
    UPDATE outbox_messages AS m
    SET state = CASE WHEN m.seq = {seq} THEN 'delivered' ELSE 'superseded' END,
        attempts = CASE WHEN m.seq = {seq} THEN {attempts} ELSE m.attempts END,
        settled_at = {now}
    {from_rows}
    WHERE m.topic = {topic} AND m.key = {key} AND m.version <= {version} AND m.state IN ('pending', 'retrying', 'dead')
      AND (m.seq <> {seq} OR (m.version = {version} AND m.enqueued_at = {enqueued_at} AND m.state <> 'dead'))
    """,
    {
        "seq": "bigint",
        "topic": "text",
        "key": "text",
        "version": "bigint",
        "enqueued_at": "bigint",
        "attempts": "bigint",
        "now": "bigint",
    },
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
    _MARK_DELIVERED.run(connection, rows)


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


def leases(connection: Connection) -> Sequence[tuple[int, str, str, int]]:
    """All leases as (shard, owner, token, expires_at)."""
    rows = connection.execute(text("SELECT shard, owner, token, expires_at FROM outbox_leases ORDER BY shard"))
    return [(row.shard, row.owner, row.token, row.expires_at) for row in rows]


_TOKENS_STANDING = ForKeys(
    "SELECT shard, token FROM outbox_leases WHERE shard {among} ORDER BY shard {lock}", lock="FOR SHARE"
)


def tokens_standing(connection: Connection, shards: Iterable[int]) -> dict[int, str]:
    """Shard to token. Nobody can take or give up one of these leases before the caller's transaction ends."""
    return {row.shard: row.token for row in _TOKENS_STANDING.run(connection, shards)}


def lock_leases(connection: Connection) -> None:
    """Until the transaction ends nobody else shares out shards; SQLite's write lock is that lock already."""
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SHARING_OUT})")


def lease_clock(connection: Connection) -> int:
    """Epoch ms by which leases run out: one clock for all relays, the database's where they are on many machines."""
    if connection.dialect.name == "sqlite":
        return now_ms()
    found = connection.exec_driver_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    return int(found.scalar_one())


_PUT_LEASES = ForEachRow(
    """
    INSERT INTO outbox_leases (shard, owner, token, expires_at) {values}
    ON CONFLICT (shard) DO UPDATE
    SET owner = excluded.owner, token = excluded.token, expires_at = excluded.expires_at
    """,
    {"shard": "bigint", "owner": "text", "token": "text", "expires_at": "bigint"},
)
_EXTEND_LEASES = ForEachRow(
    """
    UPDATE outbox_leases AS l SET expires_at = {expires_at} {from_rows}
    WHERE l.shard = {shard} AND l.token = {token}
    """,
    {"shard": "bigint", "token": "text", "expires_at": "bigint"},
)
_DELETE_LEASES = ForEachRow(
    "DELETE FROM outbox_leases AS l {using_rows} WHERE l.shard = {shard} AND l.token = {token}",
    {"shard": "bigint", "token": "text"},
)


def put_leases(connection: Connection, rows: Rows) -> None:
    """Takes shards over, (shard, owner, token, expires_at); the caller holds the lock and has seen that each is free
    or lapsed."""
    _PUT_LEASES.run(connection, rows)


def extend_leases(connection: Connection, rows: Rows) -> None:
    """(shard, token, expires_at)."""
    _EXTEND_LEASES.run(connection, rows)


def delete_leases(connection: Connection, rows: Iterable[tuple[int, str]]) -> None:
    """(shard, token)."""
    _DELETE_LEASES.run(connection, list(rows))


def put_relay(connection: Connection, row: Row) -> None:
    connection.execute(
        text(
            """
            INSERT INTO outbox_relays (id, host, pid, started_at, seen_at) VALUES (:id, :host, :pid, :now, :now)
            ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at
            """
        ),
        row,
    )


def delete_relay(connection: Connection, relay_id: str) -> None:
    connection.execute(text("DELETE FROM outbox_relays WHERE id = :id"), {"id": relay_id})


def delete_relays_unseen_since(connection: Connection, cutoff: int) -> None:
    connection.execute(text("DELETE FROM outbox_relays WHERE seen_at < :cutoff"), {"cutoff": cutoff})


def relays(connection: Connection) -> list[Row]:
    rows = connection.execute(text("SELECT id, host, pid, started_at, seen_at FROM outbox_relays ORDER BY id"))
    return [dict(row._mapping) for row in rows]


def count_by_state(connection: Connection) -> dict[str, int]:
    rows = connection.execute(text("SELECT state, count(*) AS messages FROM outbox_messages GROUP BY state"))
    return {row.state: row.messages for row in rows}


_REPLAYED = ForKeys(
    """
    SELECT max(seq) AS seq FROM outbox_messages
    WHERE topic = {given} AND key {among} AND origin = 'replay' AND state IN ('pending', 'retrying', 'dead')
    GROUP BY key
    """
)


def replayed_just_now(connection: Connection, topic: str, keys: Iterable[str]) -> list[int]:
    """The newest replayed message of each key, in the transaction that enqueued them."""
    return [row.seq for row in _REPLAYED.run(connection, keys, topic)]


_OPEN_REPLAYED = text(
    """
    SELECT m.seq, CASE WHEN EXISTS (
               SELECT 1 FROM outbox_messages AS n
               WHERE n.topic = m.topic AND n.key = m.key AND n.version > m.version AND n.state = 'retrying'
                 AND n.state IN ('pending', 'retrying', 'dead'))
           THEN 'retrying' ELSE 'pending' END
    FROM outbox_messages AS m WHERE m.state = 'pending' AND m.origin = 'replay'
    UNION ALL SELECT seq, 'retrying' FROM outbox_messages WHERE state = 'retrying' AND origin = 'replay'
    UNION ALL SELECT seq, 'dead' FROM outbox_messages WHERE state = 'dead' AND origin = 'replay'
    """
)


def open_replayed(connection: Connection) -> Iterator[tuple[int, str]]:
    """``seq`` and state of the replayed messages that are unsettled or dead.

    One that waits behind a retrying one counts as retrying.
    """
    with connection.execute(_OPEN_REPLAYED) as rows:
        yield from (tuple(row) for row in rows)


def oldest_unsettled_at(connection: Connection) -> int | None:
    found: int | None = connection.execute(
        text(
            """
            SELECT min(enqueued_at) FROM outbox_messages
            WHERE state IN ('pending', 'retrying') AND state IN ('pending', 'retrying', 'dead')
            """
        )
    ).scalar_one()
    return found


def newest_seq(session: Session) -> int:
    """The highest ``seq`` that stands, 0 in an empty table."""
    return int(session.execute(text("SELECT coalesce(max(seq), 0) FROM outbox_messages")).scalar_one())


_ANYTHING_DUE = text(
    f"""
    SELECT EXISTS (SELECT 1 FROM outbox_messages AS m WHERE m.state = 'pending' AND {_NEWEST_OF_ITS_KEY})
        OR EXISTS (SELECT 1 FROM outbox_messages AS m
                   WHERE m.state = 'retrying' AND (m.available_at <= :now OR m.available_at > :too_far)
                     AND {_NEWEST_OF_ITS_KEY})
    """  # noqa: S608 - constants above
)


def anything_due(connection: Connection, now: int, too_far: int) -> bool:
    """Whether any message, of any relay's shards, could be delivered now."""
    return bool(connection.execute(_ANYTHING_DUE, {"now": now, "too_far": too_far}).scalar_one())


_UNSETTLED = ForKeys(
    """
    SELECT DISTINCT key FROM outbox_messages
    WHERE topic = {given} AND key {among} AND state IN ('pending', 'retrying')
      AND state IN ('pending', 'retrying', 'dead')
    """
)


def unsettled_keys(connection: Connection, topic: str, keys: Iterable[str]) -> set[str]:
    """Those of ``keys`` for which a message still waits."""
    return {row.key for row in _UNSETTLED.run(connection, keys, topic)}


def dead_messages(connection: Connection, after_seq: int, limit: int) -> list[Row]:
    rows = connection.execute(
        text(
            """
            SELECT seq, topic, key, version, origin, enqueued_at, attempts, last_error, settled_at
            FROM outbox_messages WHERE state = 'dead' AND seq > :after
            ORDER BY seq LIMIT :limit
            """
        ),
        {"after": after_seq, "limit": limit},
    )
    return [dict(row._mapping) for row in rows]


def message_by_seq(connection: Connection, seq: int) -> Row | None:
    row = connection.execute(text("SELECT * FROM outbox_messages WHERE seq = :seq"), {"seq": seq}).one_or_none()
    return None if row is None else dict(row._mapping)


def revive_dead(connection: Connection, topic: str, key: str, now: int) -> int:
    """Makes a key's dead letters pending as if enqueued now; returns how many."""
    return connection.execute(
        text(
            """
            UPDATE outbox_messages
            SET state = 'pending', attempts = 0, available_at = NULL, settled_at = NULL, enqueued_at = :now
            WHERE topic = :topic AND key = :key AND state = 'dead' AND state IN ('pending', 'retrying', 'dead')
            """
        ),
        {"topic": topic, "key": key, "now": now},
    ).rowcount
