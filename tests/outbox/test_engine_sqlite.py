"""SQLite as the promises need it: durable, private, and never on the wrong file."""

import asyncio
import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

import outbox
from outbox import DatabaseMissingError, configure_engine, open_engine, reading, writing
from outbox.database.sqlite import sqlite_path
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox

HASH = "ab" * 32
pytestmark = pytest.mark.only("sqlite", because="PRAGMAs and files are SQLite's; a PostgreSQL server has its own")


def pragma(engine: Engine, name: str) -> object:
    with reading(engine) as connection:
        return connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()


def modes(*paths: Path) -> list[str]:
    return [oct(stat.S_IMODE(path.stat().st_mode)) for path in paths]


def beside(path: Path) -> tuple[Path, Path, Path]:
    return path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")


def test_a_commit_is_on_disk_before_it_returns_and_foreign_keys_hold(box: Outbox) -> None:
    found = {name: pragma(box.engine, name) for name in ("synchronous", "foreign_keys", "journal_mode")}

    assert found == {"synchronous": 2, "foreign_keys": 1, "journal_mode": "wal"}


def test_every_connection_of_the_pool_is_set_up(box: Outbox) -> None:
    with reading(box.engine) as one, reading(box.engine) as two:
        found = [connection.exec_driver_sql("PRAGMA foreign_keys").scalar_one() for connection in (one, two)]

    assert found == [1, 1]


def test_a_new_database_and_its_wal_are_private_whatever_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    before = os.umask(0)
    try:
        engine = open_engine(f"sqlite:///{path}")
        with writing(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE t (x)")
        found = modes(*beside(path))
        engine.dispose()
    finally:
        os.umask(before)

    assert found == ["0o600"] * 3


def test_upgrading_makes_an_existing_database_private(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    path.touch()
    path.chmod(0o644)
    engine = open_engine(f"sqlite:///{path}")

    outbox.upgrade(engine)
    found = modes(*beside(path))
    engine.dispose()

    assert found == ["0o600"] * 3


def test_a_missing_database_that_must_exist_is_not_created(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'none.db'}", create=False)

    with pytest.raises(DatabaseMissingError, match=r"none\.db; if one was there, mount or restore it"):
        engine.connect()
    engine.dispose()

    assert list(tmp_path.iterdir()) == []


def test_an_existing_database_that_must_exist_is_opened(box: Outbox) -> None:
    engine = box.open(create=False)

    assert pragma(engine, "journal_mode") == "wal"


def test_a_database_in_a_missing_folder_is_named(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'folder' / 'a.db'}")

    with pytest.raises(DatabaseMissingError, match=r"cannot create .*folder/a\.db: there is no folder .*folder; mount"):
        engine.connect()
    engine.dispose()


def test_an_error_on_an_engine_made_elsewhere_shows_no_parameters_either(tmp_path: Path) -> None:
    async def fail() -> None:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'a.db'}")
        configure_engine(engine.sync_engine)
        try:
            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO missing VALUES (:hash)"), {"hash": HASH})
        finally:
            await engine.dispose()

    with pytest.raises(OperationalError) as raised:
        asyncio.run(fail())

    assert HASH not in str(raised.value)


def test_an_engine_made_elsewhere_gets_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "a.db"

    async def look() -> list[object]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        configure_engine(engine.sync_engine)
        try:
            async with engine.connect() as connection:
                names = ("synchronous", "foreign_keys", "journal_mode")
                return [(await connection.exec_driver_sql(f"PRAGMA {name}")).scalar_one() for name in names]
        finally:
            await engine.dispose()

    assert asyncio.run(look()) == [2, 1, "wal"]
    assert modes(path) == ["0o600"]


def test_a_database_replaced_under_an_open_pool_is_noticed(box: Outbox, tmp_path: Path) -> None:
    box.put("in the old file")
    restored = open_engine(f"sqlite:///{tmp_path / 'restored.db'}")
    outbox.upgrade(restored)
    restored.dispose()
    for path in beside(box.path)[1:]:
        path.unlink()
    (tmp_path / "restored.db").replace(box.path)

    box.put("in the new file")

    look = box.open()
    assert [row["key"] for row in rows(look, "SELECT key FROM outbox_messages")] == ["in the new file"]


def test_a_database_deleted_under_an_open_pool_is_not_made_again(box: Outbox) -> None:
    engine = box.open(create=False)
    write(engine, "DELETE FROM things")
    box.engine.dispose()
    for path in beside(box.path):
        path.unlink(missing_ok=True)

    with pytest.raises(DatabaseMissingError):
        write(engine, "DELETE FROM things")

    assert not box.path.exists()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_a_database_in_memory_has_no_file(url: str) -> None:
    engine = open_engine(url)
    outbox.upgrade(engine)

    assert sqlite_path(engine) is None
    assert rows(engine, "SELECT * FROM outbox_messages") == []
    engine.dispose()
