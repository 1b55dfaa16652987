"""Looking at the outbox: counting, finding, listing. Nothing here writes."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, inspect, text

from outbox.database.driver import Sized
from outbox.database.rows import ForKeys
from outbox.message import MAX_DELIVERED_BYTES, Destination

Row = Mapping[str, Any]


_COUNT_UNSETTLED = """
    SELECT count(*) FROM (SELECT 1 FROM (
        SELECT seq FROM outbox_messages WHERE {destination} AND state = 'pending'
        UNION ALL SELECT seq FROM outbox_messages WHERE {destination} AND state = 'retrying')
        AS unsettled LIMIT :limit) AS c
"""
_COUNT_OF_ONE = text(_COUNT_UNSETTLED.format(destination="destination = :destination"))
# With the schema of 0.1.0 all are the gateway's.
_COUNT_OF_ALL = text(_COUNT_UNSETTLED.format(destination="1 = 1"))


def count_unsettled_up_to(connection: Connection, destination: Destination, limit: int) -> int:
    """The number of unsettled messages, counted no further than ``limit``; also with the schema of 0.1.0."""
    query = _COUNT_OF_ONE if knows_destinations(connection) else _COUNT_OF_ALL
    return int(connection.execute(query, {"destination": destination.value, "limit": limit}).scalar_one())


def knows_destinations(connection: Connection) -> bool:
    """Whether the database has the schema of more than one outbox; once it has, it is asked no more."""
    known = connection.info.get("outbox_knows_destinations", False)
    if not known:
        columns = inspect(connection).get_columns("outbox_messages")
        known = connection.info["outbox_knows_destinations"] = any(one["name"] == "destination" for one in columns)
    return bool(known)


def count_by_state(connection: Connection, destination: Destination) -> dict[str, int]:
    rows = connection.execute(
        text("SELECT state, count(*) AS messages FROM outbox_messages WHERE destination = :destination GROUP BY state"),
        {"destination": destination.value},
    )
    return {row.state: row.messages for row in rows}


_REPLAYED = ForKeys(
    """
    SELECT max(seq) AS seq FROM outbox_messages
    WHERE destination = {given} AND topic = {given} AND key {among} AND origin = 'replay'
      AND state IN ('pending', 'retrying', 'dead')
    GROUP BY key
    """
)


def replayed_just_now(connection: Connection, destination: Destination, topic: str, keys: Iterable[str]) -> list[int]:
    """The newest replayed message of each key, in the transaction that enqueued them."""
    return [row.seq for row in _REPLAYED.run(connection, keys, destination.value, topic)]


_OPEN = """
    SELECT m.seq, CASE WHEN EXISTS (
               SELECT 1 FROM outbox_messages AS n
               WHERE n.destination = m.destination AND n.topic = m.topic AND n.key = m.key
                 AND (n.version, n.seq) > (m.version, m.seq) AND n.state = 'retrying'
                 AND n.state IN ('pending', 'retrying', 'dead'))
           THEN 'retrying' ELSE 'pending' END
    FROM outbox_messages AS m WHERE m.destination = :destination AND m.state = 'pending' AND {origins}
    UNION ALL SELECT seq, 'retrying' FROM outbox_messages AS m
    WHERE destination = :destination AND state = 'retrying' AND {origins}
    UNION ALL SELECT seq, 'dead' FROM outbox_messages AS m
    WHERE destination = :destination AND state = 'dead' AND {origins}
"""
_OPEN_REPLAYED = text(_OPEN.format(origins="m.origin = 'replay'"))
_OPEN_OF_ANY_ORIGIN = text(_OPEN.format(origins="1 = 1"))


def open_replayed(
    connection: Connection, destination: Destination, *, live_too: bool = False
) -> Iterator[tuple[int, str]]:
    """``seq`` and state of the replayed messages that are unsettled or dead; with ``live_too`` of all others as well.

    One that waits behind a retrying one counts as retrying.
    """
    query = _OPEN_OF_ANY_ORIGIN if live_too else _OPEN_REPLAYED
    with connection.execute(query, {"destination": destination.value}) as rows:
        yield from (tuple(row) for row in rows)


def first_pending(connection: Connection, destination: Destination) -> int | None:
    """The ``seq`` of the message that is delivered next, unless its relay cannot."""
    found: int | None = connection.execute(
        text(
            """
            SELECT seq FROM outbox_messages WHERE destination = :destination AND state = 'pending'
            ORDER BY origin, seq LIMIT 1
            """
        ),
        {"destination": destination.value},
    ).scalar_one_or_none()
    return found


def oldest_unsettled_at(connection: Connection, destination: Destination) -> int | None:
    found: int | None = connection.execute(
        text(
            """
            SELECT min(enqueued_at) FROM outbox_messages WHERE destination = :destination
              AND state IN ('pending', 'retrying') AND state IN ('pending', 'retrying', 'dead')
            """
        ),
        {"destination": destination.value},
    ).scalar_one()
    return found


def unsettled_since(connection: Connection, destination: Destination, instant: int) -> int | None:
    """The lowest ``seq`` of those that wait and were enqueued after ``instant``."""
    found: int | None = connection.execute(
        text(
            """
            SELECT min(seq) FROM outbox_messages WHERE destination = :destination AND enqueued_at > :instant
              AND state IN ('pending', 'retrying') AND state IN ('pending', 'retrying', 'dead')
            """
        ),
        {"destination": destination.value, "instant": instant},
    ).scalar_one()
    return found


_UNSETTLED = ForKeys(
    """
    SELECT DISTINCT key FROM outbox_messages
    WHERE destination = {given} AND topic = {given} AND key {among} AND state IN ('pending', 'retrying')
      AND state IN ('pending', 'retrying', 'dead')
    """
)


def unsettled_keys(connection: Connection, destination: Destination, topic: str, keys: Iterable[str]) -> set[str]:
    """Those of ``keys`` for which a message still waits."""
    return {row.key for row in _UNSETTLED.run(connection, keys, destination.value, topic)}


# What is larger was not written by this program. A screen shows how large it is.
_SHOWN_BYTES = 65_536


def _shown(name: str, most: int = _SHOWN_BYTES) -> str:
    size = f"octet_length({name})"
    return f"CASE WHEN {size} <= {most} THEN {name} WHEN {size} > {most} THEN '(' || {size} || ' bytes)' END AS {name}"


_LISTED = ("seq", "topic", "key", "version", "origin", "enqueued_at", "attempts", "last_error", "settled_at")
_WHOLE = (
    "seq",
    "destination",
    "topic",
    "key",
    "version",
    "shard",
    "payload",
    "origin",
    "enqueued_at",
    "state",
    "attempts",
    "available_at",
    "last_error",
    "refused_for_ms",
    "refused_at",
    "crashes",
    "settled_at",
)
_TEXTS = {name: _shown(name) for name in ("destination", "topic", "key", "origin", "state", "last_error")}
_TEXTS["payload"] = _shown("payload", MAX_DELIVERED_BYTES)


def _columns(names: Iterable[str]) -> str:
    return ", ".join(_TEXTS.get(name, name) for name in names)


_DEAD_MESSAGES = Sized(
    f"""
    SELECT {_columns(_LISTED)} FROM outbox_messages
    WHERE destination = :destination AND state = 'dead' AND seq >= :first
    ORDER BY outbox_messages.seq LIMIT :limit
    """  # noqa: S608 - constants
)
_BY_SEQ = Sized(f"SELECT {_columns(_WHOLE)} FROM outbox_messages WHERE seq = :seq")  # noqa: S608


def dead_messages(connection: Connection, destination: Destination, first_seq: int, limit: int) -> list[Row]:
    """At most ``limit`` of them by ``seq``, from ``first_seq`` on, without their payloads."""
    rows = _DEAD_MESSAGES.rows(connection, destination=destination.value, first=first_seq, limit=limit)
    return [dict(zip(_LISTED, row, strict=True)) for row in rows]


def message_by_seq(connection: Connection, seq: int) -> Row | None:
    """Whatever its destination: a ``seq`` names one message of the database."""
    for row in _BY_SEQ.rows(connection, seq=seq):
        return dict(zip(_WHOLE, row, strict=True))
    return None
