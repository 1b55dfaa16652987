"""What is to be delivered now: the messages that a relay reads, and whether there are any."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from sqlalchemy import Connection, Row, text

from outbox.message import Message

_MESSAGE = """
    m.seq, m.topic, m.key, m.version, m.shard, {payload} AS payload, m.origin, m.enqueued_at, m.state, m.attempts,
    m.last_error,
    CASE WHEN EXISTS (SELECT 1 FROM outbox_messages WHERE state = 'dead') THEN
        (SELECT n.seq FROM outbox_messages AS n
         WHERE n.topic = m.topic AND n.key = m.key AND n.version > m.version AND n.state = 'dead'
           AND n.state IN ('pending', 'retrying', 'dead')
         ORDER BY n.version DESC LIMIT 1)
    END AS newer_dead_seq
"""
_WITH_PAYLOAD = _MESSAGE.format(payload="m.payload")
# A large payload is left out, and read by itself only if its batch has room for it.
_WITH_SHORT_PAYLOAD = _MESSAGE.format(payload="CASE WHEN length(m.payload) <= :short THEN m.payload END")
_PAYLOAD = text("SELECT payload FROM outbox_messages WHERE seq = :seq")
# An older message of a key waits until the newest is settled: it would mirror a state known to be old.
_NEWEST_OF_ITS_KEY = """
    NOT EXISTS (SELECT 1 FROM outbox_messages AS n
                WHERE n.topic = m.topic AND n.key = m.key AND n.version > m.version
                  AND n.state IN ('pending', 'retrying') AND n.state IN ('pending', 'retrying', 'dead'))
"""


class _Due:
    """Messages that meet one of the conditions, those of the first before those of the second, each in ``order``.

    SQLite asks for one after the other, and only while there is room; PostgreSQL for all at once, for each question
    is a round trip.
    """

    def __init__(self, order: str, *conditions: str) -> None:
        parts = [
            f"""
            SELECT {_WITH_SHORT_PAYLOAD}, m.available_at, {number} AS part FROM outbox_messages AS m
            WHERE {condition} AND m.shard {{among}} AND {_NEWEST_OF_ITS_KEY} ORDER BY {order} LIMIT :limit
            """  # noqa: S608 - constants
            for number, condition in enumerate(conditions)
        ]
        self._one_by_one = [text(part.format(among="IN (SELECT value FROM json_each(:shards))")) for part in parts]
        together = " UNION ALL ".join(f"SELECT * FROM ({part}) AS of_one" for part in parts)  # noqa: S608
        self._together = text(f"{together} ORDER BY part, {order}".format(among="= ANY(:shards)"))

    def read(
        self, connection: Connection, shards: Iterable[int], limit: int, max_bytes: int, **given: int
    ) -> list[Message]:
        """At most ``limit``, and no more once their payloads have ``max_bytes``."""
        found: list[Message] = []
        size = 0
        for row in self._rows(connection, list(shards), found, limit, given | {"short": max_bytes // limit}):
            if len(found) == limit or size >= max_bytes:
                break
            message = Message._make(row[:-2])
            if message.payload is None:
                message = message._replace(payload=connection.execute(_PAYLOAD, {"seq": message.seq}).scalar_one())
            size += len(message.payload)
            found.append(message)
        return found

    def _rows(
        self, connection: Connection, shards: list[int], found: list[Message], limit: int, given: dict[str, int]
    ) -> Iterator[Row[Any]]:
        if connection.dialect.name != "sqlite":
            yield from connection.execute(self._together, {"shards": shards, "limit": limit, **given}).all()
            return
        encoded = json.dumps(shards)
        for part in self._one_by_one:
            left = limit - len(found)
            yield from connection.execute(part, {"shards": encoded, "limit": left, **given}).all()


# No equality on the origin: PostgreSQL would then take the primary key's order for good enough, and walk over all that
# was settled.
_PENDING = _Due(
    "origin, seq",
    "m.state = 'pending' AND (m.origin, m.seq) >= ('live', :live_from) AND m.origin <= 'live'",
    "m.state = 'pending' AND (m.origin, m.seq) >= ('replay', :replay_from) AND m.origin <= 'replay'",
)
_RETRIES_DUE = _Due(
    "available_at, seq",
    "m.state = 'retrying' AND m.available_at <= :now",
    "m.state = 'retrying' AND m.available_at > :too_far",
)

_ONE_UNSETTLED = text(
    f"""
    SELECT {_WITH_PAYLOAD} FROM outbox_messages AS m
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
    return _PENDING.read(connection, shards, limit, max_bytes, live_from=live_from, replay_from=replay_from)


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
    return _RETRIES_DUE.read(connection, shards, limit, max_bytes, now=now, too_far=too_far)


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
