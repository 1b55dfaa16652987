"""Rows that the first version let in and that no row may be: made to fit, so that none stops an upgrade or is lost.

A number is set to the nearest that fits, a ``seq`` to a new one. A message whose topic, key, payload or version cannot
be believed is dead with a reason that says what was changed; it then has the lowest version, because a dead message of
a high one would hold up every later message of its key.
"""

from collections.abc import Iterable
from typing import Any
from zlib import crc32

from sqlalchemy import Connection, Row, text

from outbox.clock import now_ms
from outbox.database.migrations.tables import (
    LARGEST_COUNT,
    LARGEST_INTEGER,
    MAX_ERROR_BYTES,
    MAX_KEY_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_TOPIC_BYTES,
    MESSAGES,
    rules,
)

# Above it no number was counted up to, and below the bound there is still room for as many.
LAST_COUNTED_SEQ = 2**52
KEPT_OF_A_PAYLOAD = 65_536
_OF_A_REASON = 1_000
_OPEN = ("pending", "retrying", "dead")


def mend_rows(connection: Connection, last_seq: int) -> int:
    """Makes every row of ``outbox_messages`` keep the rules; returns the highest ``seq`` given out now.

    ``last_seq`` is the highest given out before.
    """
    fits = " AND ".join(f"({rule})" for rule in rules(connection).values())
    odd = f"SELECT seq FROM {MESSAGES} WHERE ({fits}) IS FALSE OR seq > {LAST_COUNTED_SEQ} ORDER BY seq"  # noqa: S608 - our own
    for seq in connection.exec_driver_sql(odd).scalars().all():
        new_seq = seq
        if not 1 <= seq <= LAST_COUNTED_SEQ:
            last_seq = new_seq = last_seq + 1
        row = connection.execute(_read(connection), {"seq": seq, "kept": KEPT_OF_A_PAYLOAD}).one()
        connection.execute(_WRITE, _mended(row) | {"old_seq": seq, "seq": new_seq})
    return last_seq


def _read(connection: Connection) -> Any:
    """Texts as bytes: they need be no UTF-8. Of a payload too large, its beginning and how large it is."""
    as_bytes = "CAST({} AS BLOB)" if connection.dialect.name == "sqlite" else "convert_to({}, 'UTF8')"
    size, whole = ("length" if connection.dialect.name == "sqlite" else "octet_length"), as_bytes.format("payload")
    return text(
        f"""
        SELECT {", ".join(f"{as_bytes.format(name)} AS {name}" for name in ("topic", "key", "last_error"))},
            {size}({whole}) AS payload_bytes,
            CASE WHEN {size}({whole}) <= {MAX_PAYLOAD_BYTES} THEN {whole} ELSE substr({whole}, 1, :kept) END AS payload,
            version, shard, state, attempts, enqueued_at, available_at, settled_at
        FROM {MESSAGES} WHERE seq = :seq
        """  # noqa: S608 - constants
    )


_COLUMNS = (
    "seq",
    "topic",
    "key",
    "version",
    "shard",
    "payload",
    "state",
    "attempts",
    "enqueued_at",
    "available_at",
    "last_error",
    "settled_at",
)
_WRITE = text(f"UPDATE {MESSAGES} SET {', '.join(f'{name} = :{name}' for name in _COLUMNS)} WHERE seq = :old_seq")  # noqa: S608 - constants


def _mended(row: Row[Any]) -> dict[str, object]:
    topic, odd_topic = _fitting(row.topic, "topic", MAX_TOPIC_BYTES, 1)
    key, odd_key = _fitting(row.key, "key", MAX_KEY_BYTES, 1)
    payload, odd_payload = _fitting(row.payload, "payload", MAX_PAYLOAD_BYTES, 0)
    if row.payload_bytes > MAX_PAYLOAD_BYTES:
        odd_payload = [f"a payload of {row.payload_bytes} bytes, of which the first {KEPT_OF_A_PAYLOAD} are kept"]
    odd = [*odd_topic, *odd_key, *odd_payload, *_odd_version(row.version)]
    last_error = None if row.last_error is None else _readable(row.last_error, MAX_ERROR_BYTES)[:2_000]
    state, version, settled_at = row.state, _within(row.version, LARGEST_INTEGER), row.settled_at
    if odd and state in _OPEN:
        state, version, settled_at = "dead", -LARGEST_INTEGER, settled_at or now_ms()
        last_error = _reason(odd)
    return {
        "topic": topic,
        "key": key,
        "version": version,
        "shard": crc32(key.encode()) % 64 if odd_key else row.shard,
        "payload": payload,
        "state": state,
        "attempts": min(row.attempts, LARGEST_COUNT),
        "enqueued_at": _within(row.enqueued_at, LARGEST_INTEGER),
        "available_at": None if row.available_at is None else _within(row.available_at, LARGEST_INTEGER),
        "last_error": last_error,
        "settled_at": None if settled_at is None else _within(settled_at, LARGEST_INTEGER),
    }


def _fitting(stored: bytes, name: str, most: int, least: int) -> tuple[str, list[str]]:
    """The text, and what was odd about it."""
    found = []
    if len(stored) < least:
        found.append(f"an empty {name}")
    if len(stored) > most:
        found.append(f"a {name} of {len(stored)} bytes")
    if b"\0" in stored:
        found.append(f"a NUL in its {name}")
    return (_readable(stored, most) or "?" * least, found) if found else (_as_stored(stored), found)


def _as_stored(stored: bytes) -> str:
    return stored.decode(errors="replace")


def _readable(stored: bytes, most: int) -> str:
    """At most ``most`` bytes of it, with what is no text written as ``\\x00`` and the like."""
    shown = stored[:most].decode(errors="backslashreplace").replace("\0", "\\x00")
    return shown.encode()[:most].decode(errors="ignore")


def _odd_version(version: int) -> Iterable[str]:
    return [] if abs(version) <= LARGEST_INTEGER else [f"the version {version}"]


def _within(number: int, bound: int) -> int:
    return max(-bound, min(bound, number))


def _reason(odd: list[str]) -> str:
    return (
        f"found by the upgrade with {', '.join(odd)}, which no message can have; its fields were made to fit. "
        "If its row still exists, `relay replay --id` sends the row as it is now; if not, `relay dead drop` gives it up"
    )[:_OF_A_REASON]
