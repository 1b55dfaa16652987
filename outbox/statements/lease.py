"""Who may settle which shard, and which relays there are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from outbox.clock import now_ms
from outbox.database.driver import Sized
from outbox.database.rows import ForEachRow, ForKeys
from outbox.message import SHARDS, Destination

Row = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]

# An advisory lock's number; any will do that nobody else in the database uses.
_SHARING_OUT = 0x6F7574626F78
# A gateway's URL and an error may have 2,000 characters.
_MAX_TEXT_BYTES = 8_000


class Lease(NamedTuple):
    """``length_ms`` is for how long it was taken: its end can never lie further ahead."""

    shard: int
    owner: str
    token: str
    expires_at: int
    length_ms: int


def _short(name: str) -> str:
    size = f"octet_length({name})"
    return f"CASE WHEN {size} <= {_MAX_TEXT_BYTES} THEN {name} WHEN {size} > 0 THEN '(' || {size} || ' bytes)' END"


_LEASES = Sized(
    f"""
    SELECT shard, {_short("owner")}, {_short("token")}, expires_at, length_ms FROM outbox_leases
    WHERE destination = :destination AND shard BETWEEN 0 AND {SHARDS - 1} ORDER BY shard
    """  # noqa: S608 - constants
)


def leases(connection: Connection, destination: Destination) -> Sequence[Lease]:
    """All leases of a destination's shards; a text too long to be a relay's is told by its size."""
    return [Lease._make(row) for row in _LEASES.rows(connection, destination=destination.value)]


_TOKENS_STANDING = ForKeys(
    "SELECT shard, token FROM outbox_leases WHERE destination = {given} AND shard {among} ORDER BY shard {lock}",
    lock="FOR SHARE",
)


def tokens_standing(connection: Connection, destination: Destination, shards: Iterable[int]) -> dict[int, str]:
    """Shard to token. Nobody can take or give up one of these leases before the caller's transaction ends."""
    return {row.shard: row.token for row in _TOKENS_STANDING.run(connection, shards, destination.value)}


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
    INSERT INTO outbox_leases (shard, owner, token, expires_at, length_ms, destination) {values}
    ON CONFLICT (destination, shard) DO UPDATE
    SET owner = excluded.owner, token = excluded.token, expires_at = excluded.expires_at, length_ms = excluded.length_ms
    """,
    {
        "shard": "bigint",
        "owner": "text",
        "token": "text",
        "expires_at": "bigint",
        "length_ms": "bigint",
        "destination": "text",
    },
)
_EXTEND_LEASES = ForEachRow(
    """
    UPDATE outbox_leases AS l SET expires_at = {expires_at} {from_rows}
    WHERE l.destination = {destination} AND l.shard = {shard} AND l.token = {token}
    """,
    {"shard": "bigint", "token": "text", "expires_at": "bigint", "destination": "text"},
)
_DELETE_LEASES = ForEachRow(
    """
    DELETE FROM outbox_leases AS l {using_rows}
    WHERE l.destination = {destination} AND l.shard = {shard} AND l.token = {token}
    """,
    {"shard": "bigint", "token": "text", "destination": "text"},
)


def put_leases(connection: Connection, destination: Destination, rows: Sequence[Lease]) -> None:
    """Takes shards over; the caller holds the lock and has seen that each is free
    or lapsed."""
    _PUT_LEASES.run(connection, [(*row, destination.value) for row in rows])


def extend_leases(connection: Connection, destination: Destination, rows: Rows) -> None:
    """(shard, token, expires_at)."""
    _EXTEND_LEASES.run(connection, [(*row, destination.value) for row in rows])


def delete_leases(connection: Connection, destination: Destination, rows: Iterable[tuple[int, str]]) -> None:
    """(shard, token)."""
    _DELETE_LEASES.run(connection, [(*row, destination.value) for row in rows])


_RELAY = (
    "id",
    "host",
    "host_name",
    "pid",
    "pid_started",
    "version",
    "gateway",
    "started_at",
    "seen_at",
    "last_error",
    "down_since",
    "last_delivered_at",
)
_KEPT_FROM_ITS_START = ("id", "started_at")
_TEXTS = ("id", "host", "host_name", "version", "gateway", "last_error")
_RELAYS = Sized(
    f"""
    SELECT {", ".join(_short(one) if one in _TEXTS else one for one in _RELAY)} FROM outbox_relays
    WHERE destination = :destination ORDER BY outbox_relays.id
    """  # noqa: S608 - constants
)
_PUT_RELAY = text(
    f"""
    INSERT INTO outbox_relays (destination, {", ".join(_RELAY)})
    VALUES (:destination, {", ".join(f":{one}" for one in _RELAY)})
    ON CONFLICT (id) DO UPDATE
    SET {", ".join(f"{one} = excluded.{one}" for one in _RELAY if one not in _KEPT_FROM_ITS_START)}
    """  # noqa: S608 - constants
)


def put_relay(connection: Connection, destination: Destination, row: Row) -> None:
    """What `relays` returns; a relay that is there keeps the instant at which it started."""
    connection.execute(_PUT_RELAY, {**row, "destination": destination.value})


def delete_relay(connection: Connection, relay_id: str) -> None:
    connection.execute(text("DELETE FROM outbox_relays WHERE id = :id"), {"id": relay_id})


def delete_relays_unseen_since(connection: Connection, destination: Destination, cutoff: int) -> None:
    connection.execute(
        text("DELETE FROM outbox_relays WHERE destination = :destination AND seen_at < :cutoff"),
        {"destination": destination.value, "cutoff": cutoff},
    )


def relays(connection: Connection, destination: Destination) -> list[Row]:
    rows = _RELAYS.rows(connection, destination=destination.value)
    return [dict(zip(_RELAY, row, strict=True)) for row in rows]
