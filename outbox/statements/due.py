"""What is to be delivered now: the messages that a relay reads, and whether there are any."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from outbox.database.driver import Sized, is_plain_text
from outbox.database.rows import ForKeys
from outbox.message import (
    LARGEST_COUNT,
    LARGEST_INTEGER,
    LOWEST_SEQ,
    MAX_DELIVERED_BYTES,
    NEVER_DELIVERED,
    SHARDS,
    Destination,
    Message,
    Origin,
)
from outbox.statements.schema_version import version_of_payload

# More than this no honest topic, key or reason has. Sizes are asked for before a text is read.
_MAX_TEXT_BYTES = 65_536


def _if_short(name: str) -> str:
    return f"CASE WHEN octet_length(m.{name}) <= {_MAX_TEXT_BYTES} THEN m.{name} END AS {name}"


def _count(name: str, most: int) -> str:
    """As every writer keeps it: what is written back must be within a count's bounds."""
    return f"CASE WHEN m.{name} < 0 THEN 0 WHEN m.{name} > {most} THEN {most} ELSE m.{name} END AS {name}"


_TEXTS = ("topic", "key", "last_error")
_ALL_SHORT = " AND ".join(f"coalesce(octet_length(m.{name}), 0) <= {_MAX_TEXT_BYTES}" for name in _TEXTS)
# A large payload is left out, and read by itself only if its batch has room for it. Whoever may write the table may
# have put any number into ``shard``; some relay must still be the one to refuse such a message.
_MESSAGE = f"""
    m.seq, {_if_short("topic")}, {_if_short("key")}, m.version, m.shard & {SHARDS - 1} AS shard,
    CASE WHEN octet_length(m.payload) <= :short AND {_ALL_SHORT} THEN m.payload END AS payload,
    CASE m.origin WHEN 'replay' THEN 'replay' ELSE 'live' END AS origin,
    m.enqueued_at, m.state, {_count("attempts", LARGEST_COUNT)}, {_if_short("last_error")}, NULL AS newer_dead_seq,
    m.available_at, {_count("refused_for_ms", LARGEST_INTEGER)}, m.refused_at, {_count("crashes", LARGEST_COUNT)}
"""
_COLUMNS = Message._fields.index("crashes") + 1
# Flags read with the batch, so that the rare extra queries run only when they can find something.
_ELSE = """
    EXISTS (SELECT 1 FROM outbox_messages WHERE destination = :destination AND state = 'dead') AS any_dead,
    EXISTS (SELECT 1 FROM outbox_messages WHERE destination = :destination AND state = 'retrying') AS any_retrying
"""
# One of a version that no row can have, or that was not a message of its key at all, says nothing of the key's state.
_DEAD = ForKeys(
    f"""
    SELECT topic, key, version, seq FROM outbox_messages
    WHERE destination = {{given}} AND topic = {{given}} AND key {{among}}
      AND state = 'dead' AND state IN ('pending', 'retrying', 'dead') AND version <= {LARGEST_INTEGER}
      AND substr(coalesce(last_error, ''), 1, {len(NEVER_DELIVERED)}) <> '{NEVER_DELIVERED}'
    ORDER BY version, seq
    """,  # noqa: S608 - constants
    lock="",
)
# An older message of a key waits until the newest is settled: it would mirror a state known to be old. Of one version
# the later seq is newer, yet a replayed message holds up no live one: live goes first, however long the replay. A
# version that no row can have holds up nobody.
_NEWEST_OF_ITS_KEY = f"""
    NOT EXISTS (SELECT 1 FROM outbox_messages AS n
                WHERE n.destination = m.destination AND n.topic = m.topic AND n.key = m.key
                  AND (n.version, n.seq) > (m.version, m.seq) AND (n.version > m.version OR n.origin <= m.origin)
                  AND n.version <= {LARGEST_INTEGER}
                  AND n.state IN ('pending', 'retrying') AND n.state IN ('pending', 'retrying', 'dead'))
"""  # noqa: S608 - a constant


class Found(NamedTuple):
    """Messages, and whether any may be retrying; that none is, is only known where a message was found."""

    messages: list[Message]
    any_retrying: bool


class NewerThan(NamedTuple):
    """Messages of a topic with a schema version above ``reads``: its destination is too old for them."""

    topic: str
    reads: int


class Apart(NamedTuple):
    """Messages that this relay could not settle, by ``seq``: it leaves them alone."""

    seqs: tuple[int, ...]


Left = NewerThan | Apart
"""What is to be left where it is."""


def _but(connection: Connection, left: Sequence[Left]) -> tuple[str, dict[str, Any]]:
    """What leaves ``left`` out, and its parameters. Nothing on most days, so that each query is as it always was."""
    words, given, is_sqlite = "", dict[str, Any](), connection.dialect.name == "sqlite"
    for number, one in enumerate(left):
        if isinstance(one, Apart):
            among = "SELECT value FROM json_each(:apart)" if is_sqlite else "SELECT unnest(:apart)"
            words += f" AND m.seq NOT IN ({among})"
            given["apart"] = json.dumps(one.seqs) if is_sqlite else list(one.seqs)
            continue
        newer = f" AND {version_of_payload(connection)} > :reads_{number}" if one.reads else ""
        words += f" AND NOT (m.topic = :shut_{number}{newer})"
        given |= {f"shut_{number}": one.topic} | ({f"reads_{number}": one.reads} if one.reads else {})
    return words, given


class _Due:
    """Messages that meet ``condition``, are the newest of their key, and are of some shards of a destination."""

    def __init__(self, condition: str, order: str) -> None:
        self._sql = f"""
            SELECT {_MESSAGE}, {_ELSE} FROM outbox_messages AS m
            WHERE m.destination = :destination AND {condition}
              AND (m.shard & {SHARDS - 1}) {{among_shards}} AND {_NEWEST_OF_ITS_KEY}{{but}}
            ORDER BY {order} LIMIT :limit
        """  # noqa: S608 - constants
        self._everything = Sized(self._sql.replace("{but}", ""))

    def read(
        self,
        connection: Connection,
        destination: Destination,
        shards: Iterable[int],
        limit: int,
        max_bytes: int,
        but: Sequence[Left] = (),
        **given: int | str,
    ) -> Found:
        """At most ``limit``, and no more once their payloads have ``max_bytes``; none that ``but`` names."""
        if limit <= 0 or max_bytes <= 0:
            return Found([], any_retrying=True)
        words, more = _but(connection, but)
        query = Sized(self._sql.replace("{but}", words)) if words else self._everything
        # Below its share of the batch no payload can make it larger than wanted.
        short = min(max_bytes // limit, MAX_DELIVERED_BYTES)
        rows = query.rows(
            connection,
            destination=destination.value,
            shards=list(shards),
            limit=limit,
            short=short,
            **given,
            **more,
        )
        if not rows:
            return Found([], any_retrying=True)
        *_, any_dead, any_retrying = rows[0]
        found = _whole(connection, rows, max_bytes)
        return Found(_with_newer_dead(connection, destination, found) if any_dead else found, bool(any_retrying))


_BY_ITSELF = Sized(
    f"""
    SELECT octet_length(m.topic), octet_length(m.key), coalesce(octet_length(m.last_error), 0), octet_length(m.payload),
        CASE WHEN octet_length(m.payload) <= {MAX_DELIVERED_BYTES} AND {_ALL_SHORT} THEN m.payload END
    FROM outbox_messages AS m WHERE m.seq = :seq
    """  # noqa: S608 - constants
)


def _whole(connection: Connection, rows: Iterable[tuple[Any, ...]], max_bytes: int) -> list[Message]:
    found: list[Message] = []
    size = 0
    for row in rows:
        if size >= max_bytes:
            break
        message = Message(*row[:_COLUMNS])
        if message.payload is None:
            message = _by_itself(connection, message)
        size += len(message.payload)
        found.append(message)
    return found


def _by_itself(connection: Connection, message: Message) -> Message:
    """The message with its large payload; without any, and with the reason, where it is no honest one."""
    ((*sizes, payload),) = _BY_ITSELF.rows(connection, seq=message.seq)
    if payload is not None:
        return message._replace(payload=payload)
    limits = (_MAX_TEXT_BYTES, _MAX_TEXT_BYTES, _MAX_TEXT_BYTES, MAX_DELIVERED_BYTES)
    named = zip(("topic", "key", "reason", "payload"), sizes, limits, strict=True)
    odd = ", ".join(f"{size} bytes of {name}, more than {limit}" for name, size, limit in named if size > limit)
    return message._replace(
        payload="",
        # What was left behind has to be told apart from others.
        topic=message.topic or f"a topic of {sizes[0]} bytes",
        key=message.key or f"a key of {sizes[1]} bytes, message {message.seq}",
        unreadable=f"it has {odd}",
    )


def _with_newer_dead(connection: Connection, destination: Destination, messages: Sequence[Message]) -> list[Message]:
    dead: dict[tuple[str, str], tuple[int, int]] = {}
    readable = [message for message in messages if message.unreadable is None and is_plain_text(message.topic)]
    for topic in {message.topic for message in readable}:
        keys = [message.key for message in readable if message.topic == topic]
        # In order, so that the newest of a key remains.
        found = _DEAD.run(connection, keys, destination.value, topic)
        dead |= {(row.topic, row.key): (row.version, row.seq) for row in found}
    return [
        message._replace(newer_dead_seq=_newer(dead.get((message.topic, message.key)), message)) for message in messages
    ]


def _newer(dead: tuple[int, int] | None, message: Message) -> int | None:
    return dead[1] if dead is not None and dead > (message.version, message.seq) else None


# No equality on the origin: PostgreSQL would then take the primary key's order for good enough, and walk over all that
# was settled.
_ALL_PENDING = _Due("m.state = 'pending'", "m.origin, m.seq")
_PENDING = _Due(
    "m.state = 'pending' AND (m.origin, m.seq) >= (:first, :begin) AND m.origin <= :last", "m.origin, m.seq"
)
_DUE_SINCE = _Due("m.state = 'retrying' AND m.available_at <= :until", "m.available_at, m.seq")
_DUE_UNKNOWN = _Due("m.state = 'retrying' AND m.available_at IS NULL", "m.seq")
_DUE_TOO_FAR = _Due("m.state = 'retrying' AND m.available_at > :too_far", "m.available_at, m.seq")
_WAITS = text(
    """
    SELECT (SELECT min(available_at) FROM outbox_messages WHERE destination = :destination AND state = 'retrying'),
        (SELECT max(available_at) FROM outbox_messages WHERE destination = :destination AND state = 'retrying'),
        EXISTS (SELECT 1 FROM outbox_messages
                WHERE destination = :destination AND state = 'retrying' AND available_at IS NULL)
    """
)

_ONE_UNSETTLED = Sized(
    f"""
    SELECT {_MESSAGE} FROM outbox_messages AS m
    WHERE m.seq = :seq AND m.destination = :destination AND m.state IN ('pending', 'retrying') AND {_NEWEST_OF_ITS_KEY}
    """  # noqa: S608 - constants above
)


def pending(
    connection: Connection,
    destination: Destination,
    shards: Iterable[int],
    limit: int,
    max_bytes: int,
    *,
    but: Sequence[Left] = (),
    live_from: int = LOWEST_SEQ,
    replay_from: int = LOWEST_SEQ,
) -> Found:
    """Messages never tried, live before replay, oldest first; at most ``limit``, and about ``max_bytes`` of payload.

    Those of a ``seq`` below ``live_from`` or ``replay_from`` are passed over.
    """
    live, replay = Origin.LIVE.value, Origin.REPLAY.value
    shards = list(shards)
    if live_from == replay_from == LOWEST_SEQ:
        return _ALL_PENDING.read(connection, destination, shards, limit, max_bytes, but)
    each_alone = replay_from != LOWEST_SEQ
    last = live if each_alone else replay
    given: dict[str, int | str] = {"first": live, "begin": live_from, "last": last}
    found = _PENDING.read(connection, destination, shards, limit, max_bytes, but, **given)
    if each_alone:
        room = max_bytes - sum(len(message.payload) for message in found.messages)
        left = limit - len(found.messages)
        given = {"first": replay, "begin": replay_from, "last": replay}
        more = _PENDING.read(connection, destination, shards, left, room, but, **given)
        return Found(found.messages + more.messages, found.any_retrying and more.any_retrying)
    return found


_UNDER_WAY = text(
    """
    SELECT CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint),
        CASE WHEN last_value > :passed THEN CAST(CAST(pg_current_xact_id() AS text) AS bigint) END, last_value
    FROM outbox_messages_seq_seq
    """
)


def under_way(connection: Connection, passed: int) -> tuple[int, int | None, int]:
    """PostgreSQL only: the number of the oldest transaction that had not ended when the snapshot was taken, one above
    all given to transactions so far, and the highest ``seq`` given out.

    The second is this transaction's own, drawn for it, and None where no ``seq`` above ``passed`` was given out. The
    snapshot's upper end would not do: transactions that are under way can lie above it.
    """
    row = connection.execute(_UNDER_WAY, {"passed": passed}).one()
    return row[0], row[1], row[2]


def retries_due(
    connection: Connection,
    destination: Destination,
    shards: Iterable[int],
    limit: int,
    max_bytes: int,
    *,
    now: int,
    too_far: int,
    but: Sequence[Left] = (),
) -> list[Message]:
    """Messages refused before whose wait is over, longest due first.

    A due time that is missing, or beyond ``too_far``, counts as over.
    """
    first, last, any_unknown = connection.execute(_WAITS, {"destination": destination.value}).one()
    wanted: list[tuple[_Due, dict[str, int]]] = []
    if first is not None and first <= now:
        wanted.append((_DUE_SINCE, {"until": now}))
    if last is not None and last > too_far:
        wanted.append((_DUE_TOO_FAR, {"too_far": too_far}))
    if any_unknown:
        wanted.append((_DUE_UNKNOWN, {}))
    found: list[Message] = []
    for due, given in wanted:
        room = max_bytes - sum(len(message.payload) for message in found)
        found += due.read(connection, destination, shards, limit - len(found), room, but, **given).messages
    return found


def one_unsettled(connection: Connection, destination: Destination, seq: int) -> Message | None:
    """The message if it still waits and is the newest of its key."""
    rows = _ONE_UNSETTLED.rows(connection, destination=destination.value, seq=seq, short=MAX_DELIVERED_BYTES)
    found = _with_newer_dead(connection, destination, _whole(connection, rows, MAX_DELIVERED_BYTES))
    return found[0] if found else None


_ANYTHING_DUE = f"""
    SELECT EXISTS (SELECT 1 FROM outbox_messages AS m
                   WHERE m.destination = :destination AND m.state = 'pending' AND {_NEWEST_OF_ITS_KEY}{{but}})
        OR EXISTS (SELECT 1 FROM outbox_messages AS m
                   WHERE m.destination = :destination AND m.state = 'retrying'
                     AND (m.available_at <= :now OR m.available_at > :too_far OR m.available_at IS NULL)
                     AND {_NEWEST_OF_ITS_KEY}{{but}})
"""  # noqa: S608 - constants above
_ANYTHING_AT_ALL_DUE = Sized(_ANYTHING_DUE.replace("{but}", ""))


def anything_due(
    connection: Connection, destination: Destination, now: int, too_far: int, but: Sequence[Left] = ()
) -> bool:
    """Whether any message, of any relay's shards, could be delivered now; those that ``but`` names cannot."""
    words, more = _but(connection, but)
    query = Sized(_ANYTHING_DUE.replace("{but}", words)) if words else _ANYTHING_AT_ALL_DUE
    ((found,),) = query.rows(connection, destination=destination.value, now=now, too_far=too_far, **more)
    return bool(found)
