"""Troubles that a database has for a while, on either kind; afterwards it is as before."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Engine

from outbox import open_engine, writing
from outbox.database.sqlite import sqlite_path
from tests.conftest import Stores, write
from tests.databases import alter, name_of

Trouble = Callable[[Stores], AbstractContextManager[None]]


@contextmanager
def gone(engine: Engine) -> Iterator[None]:
    """Its file is moved away; or the server ends the connections to it, and knows no database of that name."""
    path, url = sqlite_path(engine), engine.url.render_as_string(hide_password=False)
    engine.dispose()
    if path is not None:
        away = path.with_name("away.db")
        path.rename(away)
        yield
        assert not path.exists(), "a missing database must not be created"
        away.rename(path)
        return
    name, away_url = name_of(url), engine.url.set(database=f"{name_of(url)}_away").render_as_string(hide_password=False)
    alter(url, "ALLOW_CONNECTIONS false")
    alter(url, f"RENAME TO {name_of(away_url)}")
    try:
        yield
    finally:
        alter(away_url, f"RENAME TO {name}")
        alter(url, "ALLOW_CONNECTIONS true")


@contextmanager
def missing(stores: Stores) -> Iterator[None]:
    with gone(stores.mirror):
        yield


@contextmanager
def write_locked(stores: Stores) -> Iterator[None]:
    """SQLite's write lock; or the one that a server's table is altered under, which readers wait for as well."""
    with writing(stores.mirror) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE ingress_invites IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def not_initialised(stores: Stores) -> Iterator[None]:
    path = sqlite_path(stores.mirror)
    if path is None:
        write(stores.mirror, "ALTER TABLE ingress_invites RENAME TO away")
        yield
        write(stores.mirror, "ALTER TABLE away RENAME TO ingress_invites")
        return
    with missing(stores):
        engine = open_engine(stores.mirror_url)
        write(engine, "CREATE TABLE other (id)")
        engine.dispose()
        yield
        path.unlink()


@contextmanager
def not_a_database(stores: Stores) -> Iterator[None]:
    with missing(stores):
        path = stores.folder / "gateway.db"
        path.write_bytes(b"this is no database at all\n" * 400)
        yield
        path.unlink()


@contextmanager
def a_folder(stores: Stores) -> Iterator[None]:
    with missing(stores):
        path = stores.folder / "gateway.db"
        path.mkdir()
        yield
        path.rmdir()


@contextmanager
def closed(stores: Stores) -> Iterator[None]:
    alter(stores.mirror_url, "ALLOW_CONNECTIONS false")
    try:
        yield
    finally:
        alter(stores.mirror_url, "ALLOW_CONNECTIONS true")


@contextmanager
def read_only(stores: Stores) -> Iterator[None]:
    """As on a standby."""
    with _set(stores.mirror_url, "default_transaction_read_only", "on"):
        yield


@contextmanager
def without_rights(stores: Stores) -> Iterator[None]:
    """Whoever connects acts as a role that was granted nothing."""
    with _set(stores.mirror_url, "role", "pg_monitor"):
        yield


@contextmanager
def without_right_to_write(stores: Stores) -> Iterator[None]:
    """Whoever connects may read every table."""
    with _set(stores.mirror_url, "role", "pg_read_all_data"):
        yield


@contextmanager
def being_indexed(stores: Stores) -> Iterator[None]:
    """Rows can be read and not written."""
    with writing(stores.mirror) as connection:
        connection.exec_driver_sql("LOCK TABLE ingress_invites IN SHARE MODE")
        yield


TROUBLES = (missing, write_locked, not_initialised)
OF_FILES = (not_a_database, a_folder)
OF_SERVERS = (closed, read_only, without_rights)


@contextmanager
def _set(url: str, name: str, value: str) -> Iterator[None]:
    alter(url, f"SET {name} = '{value}'")
    try:
        yield
    finally:
        alter(url, f"RESET {name}")
