"""What is to be delivered now: the messages that a relay reads, and whether there are any."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from outbox.driver import plain_rows
from outbox.message import Message, Origin
from outbox.rows import ForKeys

# A large payload is left out, and read by itself only if its batch has room for it.
_MESSAGE = """
    m.seq, m.topic, m.key, m.version, m.shard, CASE WHEN length(m.payload) <= :short THEN m.payload END AS payload,
    m.origin, m.enqueued_at, m.state, m.attempts, m.last_error,
    NULL AS newer_dead_seq
"""
_COLUMNS = len(Message._fields)
# What else there may be to look for, which most times there is not: known without another question.
_ELSE = """
    EXISTS (SELECT 1 FROM outbox_messages WHERE state = 'dead') AS any_dead,
    EXISTS (SELECT 1 FROM outbox_messages WHERE state = 'retrying') AS any_retrying
"""
_ANY_LENGTH = 2**31 - 1
_PAYLOAD = text("SELECT payload FROM outbox_messages WHERE seq = :seq")
_DEAD = ForKeys(
    """
    SELECT topic, key, version, seq FROM outbox_messages
    WHERE topic = {given} AND key {among} AND state = 'dead' AND state IN ('pending', 'retrying', 'dead')
    ORDER BY version
    """,
    lock="",
)
# An older message of a key waits until the newest is settled: it would mirror a state known to be old.
_NEWEST_OF_ITS_KEY = """
    NOT EXISTS (SELECT 1 FROM outbox_messages AS n
                WHERE n.topic = m.topic AND n.key = m.key AND n.version > m.version
                  AND n.state IN ('pending', 'retrying') AND n.state IN ('pending', 'retrying', 'dead'))
"""


class Found(NamedTuple):
    """Messages, and whether any may be retrying; that none is, is only known where a message was found."""

    messages: list[Message]
    any_retrying: bool


class NewerThan(NamedTuple):
    """Messages of a topic with a schema version above ``reads``: its destination is too old for them."""

    topic: str
    reads: int


# A payload of an odd shape counts as version 1: it is for the destination to refuse. The names in braces, here and
# below, are filled in by `str.format`.
_VERSION = {
    "sqlite": """
        CASE WHEN json_valid(m.payload) THEN
            CASE WHEN json_type(m.payload, '$.schemaVersion') IN ('integer', 'real')
                 THEN json_extract(m.payload, '$.schemaVersion') ELSE 1 END
        ELSE 1 END
    """,
    "postgresql": r"""
        coalesce(CAST(substring(m.payload from '"schemaVersion"\s*:\s*([0-9]+)') AS numeric), 1)
    """,
}


def _but(dialect: str, waiting: Sequence[NewerThan]) -> tuple[str, dict[str, int | str]]:
    """What leaves ``waiting`` out, and its parameters. Nothing on most days, so that each query is as it always was."""
    words, given = "", dict[str, int | str]()
    for number, one in enumerate(waiting):
        newer = f" AND {_VERSION[dialect]} > :reads_{number}" if one.reads else ""
        words += f" AND NOT (m.topic = :shut_{number}{newer})"
        given |= {f"shut_{number}": one.topic} | ({f"reads_{number}": one.reads} if one.reads else {})
    return words, given


class _Due:
    """Messages that meet ``condition``, are the newest of their key, and are of some shards."""

    def __init__(self, condition: str, order: str) -> None:
        sql = f"""
            SELECT {_MESSAGE}, {_ELSE} FROM outbox_messages AS m
            WHERE {condition} AND m.shard {{among}} AND {_NEWEST_OF_ITS_KEY}{{but}} ORDER BY {order} LIMIT :limit
        """  # noqa: S608 - constants
        among = {"sqlite": "IN (SELECT value FROM json_each(:shards))", "postgresql": "= ANY(:shards)"}
        self._sql = {dialect: sql.format(among=words, but="{but}") for dialect, words in among.items()}
        self._everything = {dialect: text(sql.format(but="")) for dialect, sql in self._sql.items()}

    def read(
        self,
        connection: Connection,
        shards: Iterable[int],
        limit: int,
        max_bytes: int,
        but: Sequence[NewerThan] = (),
        **given: int | str,
    ) -> Found:
        """At most ``limit``, and no more once their payloads have ``max_bytes``; none that ``but`` names."""
        if limit <= 0 or max_bytes <= 0:
            return Found([], any_retrying=True)
        dialect = connection.dialect.name
        query = self._everything[dialect]
        if but:
            words, more = _but(dialect, but)
            query, given = text(self._sql[dialect].format(but=words)), given | more
        # Below its share of the batch no payload can make it larger than wanted.
        given |= {"limit": limit, "short": max_bytes // limit}
        wanted = json.dumps(list(shards)) if dialect == "sqlite" else list(shards)
        rows = plain_rows(connection, query, {"shards": wanted, **given})
        if not rows:
            return Found([], any_retrying=True)
        *_, any_dead, any_retrying = rows[0]
        found = _whole(connection, rows, max_bytes)
        return Found(_with_newer_dead(connection, found) if any_dead else found, bool(any_retrying))


def _whole(connection: Connection, rows: Iterable[tuple[Any, ...]], max_bytes: int) -> list[Message]:
    found: list[Message] = []
    size = 0
    for row in rows:
        if size >= max_bytes:
            break
        message = Message._make(row[:_COLUMNS])
        if message.payload is None:
            message = message._replace(payload=connection.execute(_PAYLOAD, {"seq": message.seq}).scalar_one())
        size += len(message.payload)
        found.append(message)
    return found


def _with_newer_dead(connection: Connection, messages: Sequence[Message]) -> list[Message]:
    dead: dict[tuple[str, str], tuple[int, int]] = {}
    for topic in {message.topic for message in messages}:
        keys = [message.key for message in messages if message.topic == topic]
        # By version, so that the newest of a key remains.
        dead |= {(row.topic, row.key): (row.version, row.seq) for row in _DEAD.run(connection, keys, topic)}
    return [
        message._replace(newer_dead_seq=_newer(dead.get((message.topic, message.key)), message.version))
        for message in messages
    ]


def _newer(dead: tuple[int, int] | None, version: int) -> int | None:
    return dead[1] if dead is not None and dead[0] > version else None


# No equality on the origin: PostgreSQL would then take the primary key's order for good enough, and walk over all that
# was settled.
_PENDING = _Due(
    "m.state = 'pending' AND (m.origin, m.seq) >= (:first, :begin) AND m.origin <= :last", "m.origin, m.seq"
)
_DUE_SINCE = _Due("m.state = 'retrying' AND m.available_at <= :until", "m.available_at, m.seq")
_DUE_TOO_FAR = _Due("m.state = 'retrying' AND m.available_at > :too_far", "m.available_at, m.seq")
_WAITS = text(
    """
    SELECT (SELECT min(available_at) FROM outbox_messages WHERE state = 'retrying') AS first,
        (SELECT max(available_at) FROM outbox_messages WHERE state = 'retrying') AS last
    """
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
    but: Sequence[NewerThan] = (),
    live_from: int = 0,
    replay_from: int = 0,
) -> Found:
    """Messages never tried, live before replay, oldest first; at most ``limit``, and about ``max_bytes`` of payload.

    Those of a ``seq`` below ``live_from`` or ``replay_from`` are passed over.
    """
    live, replay = Origin.LIVE.value, Origin.REPLAY.value
    shards = list(shards)
    last = live if replay_from else replay
    found = _PENDING.read(connection, shards, limit, max_bytes, but, first=live, begin=live_from, last=last)
    if replay_from:
        room = max_bytes - sum(len(message.payload) for message in found.messages)
        left = limit - len(found.messages)
        more = _PENDING.read(connection, shards, left, room, but, first=replay, begin=replay_from, last=replay)
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
    shards: Iterable[int],
    limit: int,
    max_bytes: int,
    *,
    now: int,
    too_far: int,
    but: Sequence[NewerThan] = (),
) -> list[Message]:
    """Messages refused before whose wait is over, longest due first. A due time beyond ``too_far`` counts as over."""
    first, last = connection.execute(_WAITS).one()
    found: list[Message] = []
    if first is not None and first <= now:
        found = _DUE_SINCE.read(connection, shards, limit, max_bytes, but, until=now).messages
    if last is not None and last > too_far:
        room = max_bytes - sum(len(message.payload) for message in found)
        found += _DUE_TOO_FAR.read(connection, shards, limit - len(found), room, but, too_far=too_far).messages
    return found


def one_unsettled(connection: Connection, seq: int) -> Message | None:
    """The message if it still waits and is the newest of its key."""
    row = connection.execute(_ONE_UNSETTLED, {"seq": seq, "short": _ANY_LENGTH}).one_or_none()
    return None if row is None else _with_newer_dead(connection, [Message._make(row)])[0]


_ANYTHING_DUE = f"""
    SELECT EXISTS (SELECT 1 FROM outbox_messages AS m WHERE m.state = 'pending' AND {_NEWEST_OF_ITS_KEY}{{but}})
        OR EXISTS (SELECT 1 FROM outbox_messages AS m
                   WHERE m.state = 'retrying' AND (m.available_at <= :now OR m.available_at > :too_far)
                     AND {_NEWEST_OF_ITS_KEY}{{but}})
"""  # noqa: S608 - constants above


def anything_due(connection: Connection, now: int, too_far: int, but: Sequence[NewerThan] = ()) -> bool:
    """Whether any message, of any relay's shards, could be delivered now; those that ``but`` names cannot."""
    words, more = _but(connection.dialect.name, but)
    query = text(_ANYTHING_DUE.format(but=words))
    return bool(connection.execute(query, {"now": now, "too_far": too_far} | more).scalar_one())
