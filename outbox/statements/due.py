"""What is to be delivered now: the messages that a relay reads, and whether there are any."""

from collections.abc import Iterable

from sqlalchemy import Connection, TextClause, bindparam, text

from outbox.message import Message

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
        SELECT {", ".join(Message._fields)} FROM (
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
    rows = connection.execute(_PENDING, given | {"live_from": live_from, "replay_from": replay_from}).all()
    return [Message._make(row) for row in rows]


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
    return [Message._make(row) for row in connection.execute(_RETRIES_DUE, given).all()]


def one_unsettled(connection: Connection, seq: int) -> Message | None:
    """The message if it still waits and is the newest of its key."""
    row = connection.execute(_ONE_UNSETTLED, {"seq": seq}).one_or_none()
    return None if row is None else Message._make(row)


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
