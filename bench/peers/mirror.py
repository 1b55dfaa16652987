"""What every peer shares: the job it is given, the gateway's table on both databases, the line it prints."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

COLUMNS = {
    "id": "text",
    "source_channel": "text",
    "token_hash": "text",
    "source_conversation_id": "text",
    "note": "text",
    "max_uses": "bigint",
    "use_count": "bigint",
    "expires_at": "bigint",
    "status": "text",
    "redeemed_by_external_user_id": "text",
    "redeemed_by_external_chat_id": "text",
    "redeemed_at": "bigint",
    "expected_external_user_id": "text",
    "voice_code_hash": "text",
    "voice_code_digits": "bigint",
    "invite_code_hash": "text",
    "friend_name": "text",
    "guardian_name": "text",
    "contact_id": "text",
    "created_at": "bigint",
    "updated_at": "bigint",
}
KEYS = ["".join([first, *(word.capitalize() for word in rest)]) for first, *rest in (n.split("_") for n in COLUMNS)]

_INTO = f"INSERT INTO ingress_invites ({', '.join(COLUMNS)})"
_OVER = f"ON CONFLICT (id) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in COLUMNS if n != 'id')}"
UPSERT_SQLITE = f"{_INTO} VALUES ({', '.join('?' for _ in COLUMNS)}) {_OVER}"
UPSERT_ONE = f"{_INTO} VALUES ({', '.join(f'${place}' for place in range(1, len(COLUMNS) + 1))}) {_OVER}"
_RECORD = ", ".join(f'"{key}" {kind}' for key, kind in zip(KEYS, COLUMNS.values(), strict=True))
UPSERT_MANY = f"{_INTO} SELECT r.* FROM json_to_recordset($1::json) AS r ({_RECORD}) {_OVER}"


@dataclass(frozen=True, slots=True)
class Job:
    payloads: list[bytes]
    source: str
    mirror: str
    batch: int
    variant: str
    limit_seconds: float

    @property
    def source_path(self) -> str:
        return path_of(self.source)


def read_job() -> Job:
    found = json.loads(Path(sys.argv[1]).read_text())
    return Job(
        payloads=Path(found["payloads"]).read_bytes().splitlines(),
        source=found["source"],
        mirror=found["mirror"],
        batch=found["batch"],
        variant=found["variant"],
        limit_seconds=found.get("limit_seconds", 120),
    )


def path_of(url: str) -> str:
    return url.removeprefix("sqlite:///")


def empty_log(path: str) -> None:
    """SQLite: as whoever drains a heap that was made earlier finds it."""
    from pysqlite3 import dbapi2

    connection = dbapi2.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()


class Clock:
    """Runs from its making; the peer stops by itself once it is out of time."""

    def __init__(self, limit_seconds: float) -> None:
        self._limit = limit_seconds
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    @property
    def is_out(self) -> bool:
        return self.seconds >= self._limit


def report(messages: int, seconds: float) -> None:
    print(json.dumps({"messages": messages, "seconds": seconds}), flush=True)


def row_of(invite: Mapping[str, Any]) -> list[Any]:
    return [invite[key] for key in KEYS]


class SqliteMirror:
    """One kept connection; what `write` was given is on the disk when it returns."""

    def __init__(self, url: str) -> None:
        # The SQLite that the relay and the bound have, too.
        from pysqlite3 import dbapi2

        self._connection = dbapi2.connect(path_of(url), isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "busy_timeout = 5000"):
            self._connection.execute(f"PRAGMA {pragma}")

    def write(self, payloads: Sequence[bytes]) -> None:
        rows = [row_of(json.loads(payload)) for payload in payloads]
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            self._connection.executemany(UPSERT_SQLITE, rows)
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")


class PostgresMirror:
    """Kept connections, as many as are written to at once; a statement is its own transaction."""

    def __init__(self, connections: Sequence[Any]) -> None:
        # Not asyncpg's pool: that costs a round trip more a message, to reset the connection.
        self._idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
        for connection in connections:
            self._idle.put_nowait(connection)

    @classmethod
    async def open(cls, url: str, connections: int = 1) -> Self:
        import asyncpg

        return cls([await asyncpg.connect(url) for _ in range(connections)])

    async def write_one(self, invite: Mapping[str, Any]) -> None:
        await self._execute(UPSERT_ONE, *row_of(invite))

    async def write(self, payloads: Sequence[bytes]) -> None:
        await self._execute(UPSERT_MANY, f"[{b','.join(payloads).decode()}]")

    async def _execute(self, statement: str, *values: object) -> None:
        connection = await self._idle.get()
        try:
            await connection.execute(statement, *values)
        finally:
            self._idle.put_nowait(connection)


async def analyze(url: str) -> None:
    """What autovacuum does to a queue that has been full for a minute; without it some peers' plans are far slower."""
    import asyncpg

    connection = await asyncpg.connect(url)
    await connection.execute("ANALYZE")
    await connection.close()


class Batcher:
    """The batching glue: handlers that wait at the same time share one write, and fail together if it fails."""

    def __init__(self, mirror: SqliteMirror | PostgresMirror) -> None:
        self._mirror = mirror
        self._waiting: list[tuple[bytes, asyncio.Future[None]]] = []
        self._writes: set[asyncio.Task[None]] = set()

    async def add(self, payload: bytes) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((payload, written))
        if len(self._waiting) == 1:
            # Its first step comes after those of the handlers that were started together with this one.
            task = asyncio.create_task(self._write())
            self._writes.add(task)
            task.add_done_callback(self._writes.discard)
        await written

    async def _write(self) -> None:
        batch, self._waiting = self._waiting, []
        error: Exception | None = None
        try:
            written = self._mirror.write([payload for payload, _ in batch])
            if written is not None:
                await written
        except Exception as caught:  # noqa: BLE001 - each handler raises it
            error = caught
        for _, future in batch:
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
