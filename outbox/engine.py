"""Engines set up as the promises need: durable commits, write transactions that take the lock first, private files."""

import errno
import importlib
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from outbox.errors import DatabaseMissingError

BUSY_TIMEOUT_SECONDS = 5.0
LONGEST_LOOK_SECONDS = 0.11
FIRST_SQLITE_WITHOUT_WAL_BUG = (3, 51, 3)

_BEGIN = "sqlite_begin"
_TEXT = partial(str, encoding="utf-8", errors="replace")


def open_engine(
    url: str | URL,
    *,
    create: bool = True,
    busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    max_unsettled: int | None = None,
    module: ModuleType | None = None,
) -> Engine:
    """An engine on which every transaction is a writing one (``BEGIN IMMEDIATE``) unless `reading` says otherwise.

    SQLite: WAL, ``synchronous=FULL``, foreign keys on, a new file is created with mode 0600; with ``create=False`` a
    missing file raises `DatabaseMissingError` when a connection is made. ``busy_timeout``, in seconds, bounds the wait
    for the write lock. ``max_unsettled`` limits the outbox for all that is enqueued through this engine
    (`OutboxFullError`). Parameters never appear in its errors, so no hash or token reaches a log.

    ``module`` is the SQLite driver: `pysqlite3` where it is installed, unless given. A process must use one driver only
    for one file: the locks of two do not see each other, and commits can be lost. Pass ``sqlite3`` in a process that
    opens the same file through aiosqlite or by itself.
    """
    url = make_url(url)
    if url.get_backend_name() != "sqlite":
        raise ValueError(f"cannot open a {url.get_backend_name()} database; use sqlite:///PATH")
    engine = create_engine(
        url,
        module=module or _sqlite_module(),
        hide_parameters=True,
        connect_args={"timeout": busy_timeout},
        execution_options={"outbox_max_unsettled": max_unsettled},
    )
    configure_engine(engine, create=create)
    return engine


def configure_engine(engine: Engine, *, create: bool = True) -> None:
    """Gives a SQLite engine that was made elsewhere the settings of `open_engine`; call it before the first connection.

    For asyncio: ``configure_engine(async_engine.sync_engine)``. Without it a savepoint that is released as a
    transaction's first statement commits, and a later rollback undoes nothing.
    """
    path = sqlite_path(engine)
    # An error of a failed statement would show the hashes that it was given.
    engine.hide_parameters = True

    @event.listens_for(engine, "do_connect")
    def secure_file(_dialect: object, record: ConnectionPoolEntry, *_: object) -> None:
        if path is not None:
            _create_private(path) if create else _must_exist(path)
            make_private(path)
        # Before connecting: should the file be replaced in between, the next checkout sees it.
        record.info["file"] = file_identity(path)

    @event.listens_for(engine, "connect")
    def set_up(dbapi_connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # The driver's own transaction control starts transactions late and deferred; ours begins them below.
        dbapi_connection.isolation_level = None
        # One row with text that is no UTF-8 would else make every statement fail that meets it.
        _driver(dbapi_connection).text_factory = _TEXT
        cursor = dbapi_connection.cursor()
        try:
            _use_wal(cursor)
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
        finally:
            cursor.close()

    @event.listens_for(engine, "checkout")
    def same_file(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        # A file restored or moved under an open connection would swallow commits that no one can ever read.
        if path is not None and record.info["file"] != file_identity(path):
            raise DisconnectionError(f"{path} was replaced since the connection was made")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A deferred transaction that reads, then writes, fails at once when another one wrote in between.
        connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get(_BEGIN, 'IMMEDIATE')}")


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that holds the write lock from its start; commits at the end, rolls back on an exception."""
    with engine.begin() as connection:
        yield connection


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot without the write lock. Keep it short: an open one stops checkpoints."""
    with read_only(engine).begin() as connection:
        yield connection


def let_others_write(took_seconds: float) -> None:
    """A pause between two long-ish writing transactions of one task, at least as long as the last of them took.

    SQLite's lock is no queue: who waits for it looks again every 100 ms at worst, and a loop that takes it anew at once
    would be there first each time, until the others' patience ends.
    """
    threading.Event().wait(max(LONGEST_LOOK_SECONDS, took_seconds))


def read_only(engine: Engine) -> Engine:
    """The same engine and pool, for transactions that only read and so must not queue for the write lock."""
    return engine.execution_options(**{_BEGIN: "DEFERRED"})


def sqlite_path(engine: Engine) -> Path | None:
    """The database's file, links resolved; None for one in memory."""
    database = engine.url.database
    if not database or database == ":memory:" or database.startswith("file:"):
        return None
    return _resolved(database)


@cache
def _resolved(database: str) -> Path:
    """Once a process, since it is asked for with every message enqueued; SQLite too stays with the first answer."""
    return Path(database).resolve()


def file_identity(path: Path | None) -> tuple[int, int] | None:
    """Device and inode: changes when a file is replaced by another of the same name. None while there is none."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def has_wal_bug() -> str | None:
    """The version of the SQLite in use if it is one that can corrupt a WAL database written by several connections."""
    version: str = _sqlite_module().sqlite_version
    return version if tuple(map(int, version.split("."))) < FIRST_SQLITE_WITHOUT_WAL_BUG else None


def make_private(path: Path) -> None:
    """Takes group's and others' rights off a database's files. A file of another owner is left to that owner."""
    for name in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
        try:
            mode = name.stat().st_mode & 0o777
            if mode & 0o077:
                name.chmod(mode & 0o700)
        except (FileNotFoundError, PermissionError):
            continue


def _driver(connection: Any) -> Any:
    """The driver's own connection, under the adapter that SQLAlchemy puts around an asyncio driver's."""
    return getattr(connection, "driver_connection", connection)


def _sqlite_module() -> ModuleType:
    try:
        return importlib.import_module("pysqlite3")
    except ImportError:
        return sqlite3


def _create_private(path: Path) -> None:
    # SQLite would create the file 0644 less the umask, and its -wal and -shm inherit the mode.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        return
    except OSError as error:
        raise DatabaseMissingError(f"cannot create {path}: {os.strerror(error.errno or errno.EIO)}") from error


def _must_exist(path: Path) -> None:
    if not path.exists():
        raise DatabaseMissingError(f"no database at {path}; `relay init` creates it")


def _use_wal(cursor: Any) -> None:
    """Switches to WAL once. The switch needs the file alone and ignores the busy timeout, so others are waited for."""
    # Executed, then fetched: an asyncio driver's cursor does not return itself.
    cursor.execute("PRAGMA journal_mode")
    mode = cursor.fetchone()[0]
    for attempt in range(50):
        if mode in ("wal", "memory"):
            return
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            mode = cursor.fetchone()[0]
        except Exception as error:
            if "locked" not in str(error) or attempt == 49:
                raise
            threading.Event().wait(0.02)
