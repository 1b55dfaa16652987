"""Reading a database that may be another program's: nothing of it changes, neither its log's kind nor its rights."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from outbox.database import files
from outbox.database.engine import reading
from outbox.database.files import Place
from outbox.database.sqlite import sqlite_place
from outbox.database.store_name import name_of, name_store

PATIENCE_SECONDS = 5.0


@contextmanager
def reading_untouched(engine: Engine, patience: float = PATIENCE_SECONDS) -> Iterator[Connection]:
    """As `outbox.reading`, on a connection of its own. Raises `DatabaseMissingError` where there is no file."""
    with reading(untouched(engine, patience)) as connection:
        yield connection


def untouched(engine: Engine, patience: float = PATIENCE_SECONDS) -> Engine:
    """For reading what ``engine`` is on, and nothing else.

    Raises `DatabaseMissingError` where there is no file now, or one that another user could change.
    """
    place = sqlite_place(engine)
    if place is None:
        return engine
    files.refuse_untrusted(place)
    files.refuse_mount_point(place.path)
    files.must_exist(place.path)
    found, name = _engine_on(place, _driver_of(engine), patience), name_of(engine)
    return found if name is None else name_store(found, name)


def _engine_on(place: Place, driver: ModuleType, patience: float) -> Engine:
    engine = create_engine(
        # Its name is for errors only.
        URL.create("sqlite", database=str(place.path)),
        module=driver,
        creator=partial(_connect, place, driver, patience),
        poolclass=NullPool,
        hide_parameters=True,
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN DEFERRED"))
    return engine


def _connect(place: Place, driver: ModuleType, patience: float) -> Any:
    # Each time: what is beside the database may have come since.
    files.refuse_untrusted(place)
    # Without a log the last connection that may write deletes the one that reading made; one that may not leaves it.
    # Where there is a log it is somebody else's, and must be neither copied into the database nor deleted.
    mode = "ro" if files.wal_of(place.path).exists() else "rw"
    name = f"file:{quote(str(place.path))}?mode={mode}"
    connection = driver.connect(name, uri=True, timeout=patience, check_same_thread=False)
    connection.isolation_level = None
    return connection


def _driver_of(engine: Engine) -> ModuleType:
    """The one that the engine has the file open with: the locks of two do not see each other."""
    module: ModuleType = engine.dialect.loaded_dbapi  # type: ignore[assignment]
    return module if engine.dialect.driver == "pysqlite" else sqlite3
