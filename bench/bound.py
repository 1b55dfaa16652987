"""The bound: the shortest loop that can be written by hand. No lease, no validation, no merge, no wake-up.

It reads a batch, upserts it with one statement and marks it with another, each committed, through the raw driver.
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import make_url

from assistant_store.invites.invite import COLUMNS, TYPES
from bench.stage import Stage
from gateway_store.invites.mirror import CACHE_MIB
from outbox.database.sqlite import LOG_PAGES_OF_RELAY, sqlite_module

BATCH = 500

_UPDATES = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "id")
_PENDING = (
    f"SELECT seq, payload FROM outbox_messages WHERE state = 'pending' AND origin = 'live' ORDER BY seq LIMIT {BATCH}"
)
_UPSERT_EACH = (
    f"INSERT INTO ingress_invites ({', '.join(COLUMNS)}) VALUES ({', '.join('?' for _ in COLUMNS)})"
    f" ON CONFLICT (id) DO UPDATE SET {_UPDATES}"
)
_CAMEL = ", ".join(
    f'"{first}{"".join(word.capitalize() for word in rest)}" {TYPES[name]}'
    for name in COLUMNS
    for first, *rest in [name.split("_")]
)
_UPSERT_ALL = (
    f"INSERT INTO ingress_invites ({', '.join(COLUMNS)}) SELECT r.* FROM json_to_recordset(%s) AS r ({_CAMEL})"
    f" ON CONFLICT (id) DO UPDATE SET {_UPDATES}"
)


def drain_by_hand(at: Stage, *, tuned: bool = False) -> float:
    """Seconds, without closing the connections: as for the others, what is left in SQLite's log stays there.

    ``tuned``: with the relay's cache and its longer log, of which a loop by hand would not think.
    """
    on_postgresql = at.settings.assistant_db.startswith("postgresql")
    open_one: Callable[[str], Any] = raw_postgresql if on_postgresql else raw_sqlite
    one_batch = postgresql_batch if on_postgresql else sqlite_batch
    with closing(open_one(at.settings.assistant_db)) as source, closing(open_one(at.settings.gateway)) as mirror:
        if tuned:
            source.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES_OF_RELAY}")
            mirror.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES_OF_RELAY}")
            mirror.execute(f"PRAGMA cache_size={-1024 * CACHE_MIB}")
        started = time.perf_counter()
        while one_batch(source, mirror):
            pass
        return time.perf_counter() - started


def raw_sqlite(url: str) -> Any:
    connection = sqlite_module().connect(Path(make_url(url).database or ""), isolation_level=None)
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def sqlite_batch(source: Any, mirror: Any) -> int:
    batch = source.execute(_PENDING).fetchall()
    if batch:
        mirror.execute("BEGIN IMMEDIATE")
        mirror.executemany(_UPSERT_EACH, [tuple(json.loads(payload).values()) for _, payload in batch])
        mirror.execute("COMMIT")
        source.execute("BEGIN IMMEDIATE")
        source.executemany(
            "UPDATE outbox_messages SET state = 'delivered', settled_at = 0 WHERE seq = ?", [(seq,) for seq, _ in batch]
        )
        source.execute("COMMIT")
    return len(batch)


def raw_postgresql(url: str) -> psycopg.Connection:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(), autocommit=True)


def postgresql_batch(source: psycopg.Connection, mirror: psycopg.Connection) -> int:
    batch = source.execute(_PENDING.encode()).fetchall()
    if batch:
        mirror.execute(_UPSERT_ALL.encode(), (f"[{','.join(payload for _, payload in batch)}]",))
        source.execute(
            "UPDATE outbox_messages SET state = 'delivered', settled_at = 0 WHERE seq = ANY(%s)",
            ([seq for seq, _ in batch],),
        )
    return len(batch)
