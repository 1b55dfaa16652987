"""An outbox in a database of its own, and short ways to fill it and to look at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

import outbox
from outbox import Message, Origin, open_engine, reading, statements, writing
from outbox.leases import LONGEST_LEASE, Leases
from outbox.message import Destination
from tests.conftest import message_of, rows, write
from tests.databases import OUTBOX, database_url

TOPIC = "letter"


@dataclass(frozen=True, slots=True)
class Outbox:
    path: Path
    """The file; with PostgreSQL there is none."""
    url: str
    engine: Engine
    _others: list[Engine] = field(default_factory=list)

    def open(self, **settings: Any) -> Engine:
        """One more engine of the same database, closed with the test."""
        self._others.append(open_engine(self.url, **settings))
        return self._others[-1]

    def close(self) -> None:
        # An engine left open by a test that fails would fail a later one.
        for engine in (self.engine, *self._others):
            engine.dispose()

    def put(
        self, key: str = "k", version: int = 1, payload: str = "{}", origin: Origin = Origin.LIVE, **columns: Any
    ) -> int:
        """Enqueues one message and then gives it ``columns``; returns its ``seq``."""
        with Session(self.engine) as session, session.begin():
            outbox.enqueue(session, topic=TOPIC, key=key, version=version, payload=payload, origin=origin)
            seq: int = session.execute(text("SELECT max(seq) FROM outbox_messages")).scalar_one()
        self.change(seq, **columns)
        return seq

    def put_settled(self, state: str, settled_at: int, key: str = "k", version: int = 1) -> int:
        return self.put(key, version, state=state, settled_at=settled_at)

    def change(self, seq: int, **columns: Any) -> None:
        if columns:
            changes = ", ".join(f"{name} = :{name}" for name in columns)
            write(self.engine, f"UPDATE outbox_messages SET {changes} WHERE seq = :seq", seq=seq, **columns)

    def rows(self, where: str = "1 = 1") -> list[dict[str, Any]]:
        return rows(self.engine, f"SELECT * FROM outbox_messages WHERE {where} ORDER BY seq")

    def row(self, seq: int) -> dict[str, Any]:
        (found,) = self.rows(f"seq = {seq}")
        return found

    def state(self, seq: int) -> str:
        state: str = self.row(seq)["state"]
        return state

    def message(self, seq: int) -> Message:
        return message_of(self.row(seq))

    def pending(self, limit: int = 100, max_bytes: int = 10**9) -> list[Message]:
        with reading(self.engine) as connection:
            return statements.pending(connection, Destination.GATEWAY, range(outbox.SHARDS), limit, max_bytes).messages

    def retries_due(self, now: int, too_far: int, limit: int = 100) -> list[Message]:
        with reading(self.engine) as connection:
            shards = range(outbox.SHARDS)
            return statements.retries_due(
                connection, Destination.GATEWAY, shards, limit, 10**9, now=now, too_far=too_far
            )

    def lease_all(self) -> dict[int, str]:
        """The tokens of a relay that holds every shard."""
        leases = Leases(self.engine, LONGEST_LEASE, Destination.GATEWAY)
        leases.balance()
        return leases.tokens


@contextmanager
def opened(url: str | URL, **settings: Any) -> Iterator[Engine]:
    engine = open_engine(url, **settings)
    try:
        yield engine
    finally:
        engine.dispose()


@pytest.fixture
def box(tmp_path: Path, backend: str) -> Iterator[Outbox]:
    with database_url(backend, tmp_path, "outbox.db", OUTBOX) as url:
        made = Outbox(tmp_path / "outbox.db", url, open_engine(url))
        try:
            outbox.upgrade(made.engine)
            with writing(made.engine) as connection:
                connection.exec_driver_sql("CREATE TABLE things (name TEXT NOT NULL)")
            yield made
        finally:
            made.close()
