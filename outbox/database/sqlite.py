"""SQLite set up as the promises need: durable commits, private files, the same file throughout."""

import importlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Dialect, Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from outbox.database import file_locks, files, forks
from outbox.database.error_text import hide_rows
from outbox.database.files import Place
from outbox.database.opened import OPENED, OpenedFile, opened_by
from outbox.errors import OutcomeUnknownError

FIRST_SQLITE_WITHOUT_WAL_BUG = (3, 51, 3)

# How long the log may grow, in pages, before a commit also copies it into the database. A relay's commits come in
# heaps, and change the same pages again and again; the daemon, whose caller waits for its commit, leaves it to a relay
# where there is one.
LOG_PAGES = 16_000
LOG_PAGES_OF_RELAY = 8_000

BEGIN_IMMEDIATE = "BEGIN IMMEDIATE"
LOOK_SECONDS = 0.001

_TEXT = partial(str, encoding="utf-8", errors="replace")
_CONNECTING = "outbox_file_before_connecting"
_MAIN_FILE = "outbox_main_file"

# By the dialect, which an engine shares with all that `execution_options` makes of it.
_places: WeakKeyDictionary[Dialect, Place] = WeakKeyDictionary()


def set_up(
    engine: Engine, place: Place | None, *, create: bool, relay: bool = False, cache_mib: int | None = None
) -> None:
    """Call it before the engine's first connection. Its file is from now on the one at ``place``."""
    hide_rows(engine)
    if place is not None:
        _places[engine.dialect] = place
        forks.protect(engine)
        _open_at(engine, place, create)

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        # The driver's own transaction control starts transactions late and deferred; ours begins them below.
        dbapi_connection.isolation_level = None
        # One row with text that is no UTF-8 would else make every statement fail that meets it.
        _driver(dbapi_connection).text_factory = _TEXT
        with closing(dbapi_connection.cursor()) as cursor:
            logs = _use_wal(cursor)
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES_OF_RELAY if relay else LOG_PAGES}")
            if cache_mib is not None:
                cursor.execute(f"PRAGMA cache_size={-1024 * cache_mib}")
        if place is not None:
            _keep(record, _places[engine.dialect], logs)

    if place is not None:
        _check_what_is_in_use(engine)


def _open_at(engine: Engine, place: Place, create: bool) -> None:
    # Where SQLAlchemy found a relative name to lead when the engine was made, which may have been in another folder.
    found = place.name if place.is_uri else os.path.abspath(engine.url.database or "")  # noqa: PTH100 - links stay

    @event.listens_for(engine, "do_connect")
    def same_place(_dialect: object, record: ConnectionPoolEntry, cargs: list[Any], _cparams: object) -> None:
        nonlocal place, found
        if not place.is_uri and cargs[0] != found:
            found = cargs[0]
            place = _places[engine.dialect] = files.place_at(found)
        files.refuse_untrusted(place)
        files.refuse_mount_point(place.path)
        if create and not place.must_exist:
            files.create_private(place.path)
        else:
            files.must_exist(place.path)
        # Before connecting: should the file be replaced in between, the next checkout sees it.
        record.info[_CONNECTING] = identity = files.file_identity(place.path)
        forks.refuse_if_unusable(identity, place.path)
        # What the URL leads to may be another file by now.
        cargs[0] = place.named(cargs[0])


def _keep(record: ConnectionPoolEntry, place: Place, has_wal: bool) -> None:
    path = place.path
    # Again, with the files that are there by now: it is from here on that they are used.
    files.refuse_untrusted(place)
    # Only now is it known to be a database, and not whatever a mistyped URL names.
    files.make_private(path)
    wal = files.wal_of(path)
    opened = record.info[OPENED]
    opened.file = OpenedFile(path, record.info.get(_CONNECTING, files.file_identity(path)), wal)
    if has_wal:
        file_locks.hold(opened)
        # Behind the lock, from where on nobody deletes it.
        opened.file = replace(opened.file, wal_identity=files.file_identity(wal))


def _check_what_is_in_use(engine: Engine) -> None:
    @event.listens_for(engine, "checkout")
    def same_file(_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        # A file restored or moved under an open connection would swallow commits that no one can ever read.
        opened = opened_by(record.info)
        replaced = opened.file.replaced() if opened is not None and opened.file is not None else None
        if replaced is not None:
            raise DisconnectionError(f"{replaced} was replaced since the connection was made")

    # SQLAlchemy has events before a commit and before a close, and none after.
    plain = {name: getattr(engine.dialect, name) for name in ("do_commit", "do_close", "do_terminate")}

    def commit(connection: PoolProxiedConnection) -> None:
        plain["do_commit"](connection)
        _refuse_if_replaced(connection)

    def around(close: Callable[[DBAPIConnection], None]) -> Callable[[DBAPIConnection], None]:
        def closed(connection: DBAPIConnection) -> None:
            with file_locks.closing(connection):
                close(connection)

        return closed

    vars(engine.dialect).update(
        do_commit=commit, do_close=around(plain["do_close"]), do_terminate=around(plain["do_terminate"])
    )


def _refuse_if_replaced(connection: PoolProxiedConnection) -> None:
    opened = opened_by(connection.info)
    if opened is None or opened.file is None or not opened.writes:
        return
    replaced = opened.file.replaced()
    if replaced is not None:
        raise OutcomeUnknownError(
            f"{replaced} was replaced before the transaction had ended: it may be kept or lost; "
            "do it again with the same id"
        )


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
    place = sqlite_place(engine)
    return None if place is None else place.path


def sqlite_place(engine: Engine) -> Place | None:
    """As `sqlite_path`, with how its name was followed."""
    if engine.dialect.name != "sqlite":
        return None
    return _places.get(engine.dialect) or files.place_of(engine.url)


def file_of(connection: Connection) -> Path | None:
    """The file that a connection is on, whoever made its engine; None for one in memory."""
    opened = opened_by(connection.info)
    if opened is not None and opened.file is not None:
        return opened.file.path
    if _MAIN_FILE not in connection.info:
        # SQLite itself knows best where a relative name led; asked once a connection.
        asked = "SELECT file FROM pragma_database_list WHERE name = 'main'"
        connection.info[_MAIN_FILE] = connection.exec_driver_sql(asked).scalar()
    name: str | None = connection.info[_MAIN_FILE]
    return Path(name) if name else None


def has_wal_bug() -> str | None:
    """The version of the SQLite in use if it is one that can corrupt a WAL database written by several connections."""
    version: str = sqlite_module().sqlite_version
    return version if tuple(map(int, version.split("."))) < FIRST_SQLITE_WITHOUT_WAL_BUG else None


def _driver(connection: Any) -> Any:
    """The driver's own connection, under the adapter that SQLAlchemy puts around an asyncio driver's."""
    return getattr(connection, "driver_connection", connection)


def sqlite_module() -> ModuleType:
    try:
        return importlib.import_module("pysqlite3")
    except ImportError:
        return sqlite3


def _use_wal(cursor: Any) -> bool:
    """Switches to WAL once. The switch needs the file alone and ignores the busy timeout, so others are waited for.

    False where it cannot be had: a database in memory needs no log.
    """
    # Executed, then fetched: an asyncio driver's cursor does not return itself.
    cursor.execute("PRAGMA journal_mode")
    mode = cursor.fetchone()[0]
    for attempt in range(50):
        if mode in ("wal", "memory"):
            # After the switch it is the first to read that opens the log, by which it is known from then on.
            cursor.execute("PRAGMA schema_version")
            cursor.fetchone()
            break
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            mode = cursor.fetchone()[0]
        except Exception as error:
            if "locked" not in str(error) or attempt == 49:
                raise
            threading.Event().wait(0.02)
    return bool(mode == "wal")
