"""SQLite set up as the promises need: durable commits, private files, the same file throughout."""

import errno
import importlib
import os
import sqlite3
import threading
import time
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from outbox.errors import DatabaseMissingError

FIRST_SQLITE_WITHOUT_WAL_BUG = (3, 51, 3)

# How long the log may grow, in pages, before a commit also copies it into the database. A relay's commits come in
# heaps, and change the same pages again and again; the daemon, whose caller waits for its commit, leaves it to a relay
# where there is one.
LOG_PAGES = 16_000
LOG_PAGES_OF_RELAY = 8_000

BEGIN_IMMEDIATE = "BEGIN IMMEDIATE"
LOOK_SECONDS = 0.001

_TEXT = partial(str, encoding="utf-8", errors="replace")


def set_up(engine: Engine, *, create: bool, relay: bool = False, cache_mib: int | None = None) -> None:
    """Call it before the engine's first connection."""
    path = sqlite_path(engine)

    @event.listens_for(engine, "do_connect")
    def secure_file(_dialect: object, record: ConnectionPoolEntry, *_: object) -> None:
        if path is not None:
            _create_private(path) if create else _must_exist(path)
        # Before connecting: should the file be replaced in between, the next checkout sees it.
        record.info["file"] = file_identity(path)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # The driver's own transaction control starts transactions late and deferred; ours begins them below.
        dbapi_connection.isolation_level = None
        # One row with text that is no UTF-8 would else make every statement fail that meets it.
        _driver(dbapi_connection).text_factory = _TEXT
        cursor = dbapi_connection.cursor()
        try:
            _use_wal(cursor)
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES_OF_RELAY if relay else LOG_PAGES}")
            if cache_mib is not None:
                cursor.execute(f"PRAGMA cache_size={-1024 * cache_mib}")
        finally:
            cursor.close()
        # Only now is it known to be a database, and not whatever a mistyped URL names.
        if path is not None:
            make_private(path)

    @event.listens_for(engine, "checkout")
    def same_file(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        # A file restored or moved under an open connection would swallow commits that no one can ever read.
        if path is not None and record.info["file"] != file_identity(path):
            raise DisconnectionError(f"{path} was replaced since the connection was made")


def begin_writing(connection: Connection, patience: float) -> None:
    """BEGIN IMMEDIATE, tried again every few milliseconds for ``patience`` seconds while another holds the lock.

    SQLite's own wait grows to 100 ms between two looks: behind a relay that writes often, most would find it locked.
    """
    driver: Any = connection.connection.driver_connection
    deadline = time.monotonic() + patience
    driver.execute("PRAGMA busy_timeout=0")
    try:
        while _is_locked(driver) and (left := deadline - time.monotonic()) > 0:
            threading.Event().wait(min(left, LOOK_SECONDS))
        if not driver.in_transaction:
            connection.exec_driver_sql(BEGIN_IMMEDIATE)
    finally:
        driver.execute(f"PRAGMA busy_timeout={int(patience * 1000)}")


def _is_locked(driver: Any) -> bool:
    """Whether BEGIN IMMEDIATE fails on the lock; if it fails otherwise, SQLAlchemy is left to meet it and say so."""
    try:
        driver.execute(BEGIN_IMMEDIATE)
    except Exception as error:  # noqa: BLE001 - of whichever driver is in use
        return "locked" in str(error)
    return False


def sqlite_path(engine: Engine) -> Path | None:
    """The database's file, links resolved; None for one in memory, or of another kind."""
    database = engine.url.database
    if engine.dialect.name != "sqlite" or not database or database == ":memory:" or database.startswith("file:"):
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
    version: str = sqlite_module().sqlite_version
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


def sqlite_module() -> ModuleType:
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
