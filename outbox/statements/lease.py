"""Who may settle which shard, and which relays there are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, text

from outbox.clock import now_ms
from outbox.rows import ForEachRow, ForKeys

Row = Mapping[str, Any]
Rows = Sequence[tuple[Any, ...]]

# An advisory lock's number; any will do that nobody else in the database uses.
_SHARING_OUT = 0x6F7574626F78


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
