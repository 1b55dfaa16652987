"""Reading a database that may be another program's: nothing of it changes, neither its log's kind nor its rights."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool

from outbox import files
from outbox.engine import reading
from outbox.sqlite import sqlite_path
from outbox.store_name import name_of, name_store

PATIENCE_SECONDS = 5.0


@contextmanager
def reading_untouched(engine: Engine, patience: float = PATIENCE_SECONDS) -> Iterator[Connection]:
    """As `outbox.reading`, on a connection of its own. Raises `DatabaseMissingError` where there is no file."""
    with reading(untouched(engine, patience)) as connection:
        yield connection


def untouched(engine: Engine, patience: float = PATIENCE_SECONDS) -> Engine:
    """For reading what ``engine`` is on, and nothing else. Raises `DatabaseMissingError` where there is no file now."""
    path = sqlite_path(engine)
    if path is None:
        return engine
    files.refuse_mount_point(path)
    files.must_exist(path)
    found, name = _engine_on(path, _driver_of(engine), patience), name_of(engine)
    return found if name is None else name_store(found, name)


def _engine_on(path: Path, driver: ModuleType, patience: float) -> Engine:
    engine = create_engine(
        # Its name is for errors only.
        URL.create("sqlite", database=str(path)),
        module=driver,
        creator=partial(_connect, path, driver, patience),
        poolclass=NullPool,
        hide_parameters=True,
    )
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN DEFERRED"))
    return engine


def _connect(path: Path, driver: ModuleType, patience: float) -> Any:
    # Without a log the last connection that may write deletes the one that reading made; one that may not leaves it.
    # Where there is a log it is somebody else's, and must be neither copied into the database nor deleted.
    mode = "ro" if files.wal_of(path).exists() else "rw"
    name = f"file:{quote(str(path))}?mode={mode}"
    connection = driver.connect(name, uri=True, timeout=patience, check_same_thread=False)
    connection.isolation_level = None
    return connection


def _driver_of(engine: Engine) -> ModuleType:
    """The one that the engine has the file open with: the locks of two do not see each other."""
    module: ModuleType = engine.dialect.loaded_dbapi  # type: ignore[assignment]
    return module if engine.dialect.driver == "pysqlite" else sqlite3
