"""A database that cannot keep every text is refused while it is empty; one in use goes on, and says what is wrong."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine

import assistant_store
import gateway_store
import outbox
from assistant_store.invites.invite import TYPES
from outbox import SchemaRefusedError, reading
from outbox.database.encoding import storage_warning
from tests.conftest import rows, write
from tests.databases import name_of, server_database_in
from tests.outbox.conftest import Outbox, opened

Upgrade = Callable[[Engine], None]
UPGRADES: list[Upgrade] = [outbox.upgrade, assistant_store.upgrade, gateway_store.upgrade]
# What a store of an earlier release has: nothing else here depends on what is in it.
REMEMBERS: dict[Upgrade, str] = {
    outbox.upgrade: "outbox_schema_version",
    assistant_store.upgrade: "assistant_store_schema_version",
    gateway_store.upgrade: "gateway_store_schema_version",
}
TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


def warning_of(engine: Engine) -> str | None:
    with reading(engine) as connection:
        return storage_warning(connection)


def utf16(folder: Path, *statements: str) -> str:
    path = folder / "utf16.db"
    connection = sqlite3.connect(path)
    for statement in ("PRAGMA encoding = 'UTF-16le'", "CREATE TABLE theirs (x TEXT)", *statements):
        connection.execute(statement)
    connection.close()
    return f"sqlite:///{path}"


def test_a_database_in_utf8_has_no_warning(box: Outbox) -> None:
    assert warning_of(box.engine) is None


@pytest.mark.only("postgresql", because="a server's databases have encodings of their own")
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "WIN1252", "EUC_JP"])
@pytest.mark.parametrize("upgrade", UPGRADES)
def test_a_new_store_is_refused_where_some_texts_cannot_be_kept(backend: str, upgrade: Upgrade, encoding: str) -> None:
    assert backend
    with server_database_in(encoding) as url, opened(url) as engine:
        words = rf"{name_of(url)} is in {encoding}, not UTF8.*createdb -E UTF8 -T template0.*Nothing was changed"
        with pytest.raises(SchemaRefusedError, match=words):
            upgrade(engine)
        assert rows(engine, TABLES) == []


@pytest.mark.only("postgresql", because="a server's databases have encodings of their own")
@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
@pytest.mark.parametrize("upgrade", UPGRADES)
def test_a_store_that_is_there_is_upgraded_and_warned_of(backend: str, upgrade: Upgrade, encoding: str) -> None:
    assert backend
    with server_database_in(encoding) as url, opened(url) as engine:
        write(engine, f"CREATE TABLE {REMEMBERS[upgrade]} (version_num VARCHAR(32) PRIMARY KEY)")
        upgrade(engine)
        upgrade(engine)
        warning = warning_of(engine)
    assert warning is not None
    assert f"{name_of(url)} is in {encoding}, not UTF8" in warning
    assert "createdb -E UTF8 -T template0" in warning


@pytest.mark.only("postgresql", because="a server's databases have encodings of their own")
def test_a_daemons_own_table_makes_its_database_one_that_is_there(backend: str) -> None:
    assert backend
    with server_database_in("LATIN1") as url, opened(url) as engine:
        columns = ", ".join(f"{name} {kind}{' PRIMARY KEY' if name == 'id' else ''}" for name, kind in TYPES.items())
        write(engine, f"CREATE TABLE assistant_ingress_invites ({columns})")
        assistant_store.upgrade(engine)
        assert rows(engine, "SELECT count(*) AS n FROM outbox_messages") == [{"n": 0}]


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_a_new_store_is_refused_in_a_file_that_orders_text_otherwise(tmp_path: Path, upgrade: Upgrade) -> None:
    with opened(utf16(tmp_path)) as engine:
        with pytest.raises(SchemaRefusedError, match=r"utf16\.db is a database in UTF-16le.*use a new file"):
            upgrade(engine)
        assert rows(engine, "SELECT name FROM sqlite_master") == [{"name": "theirs"}]


@pytest.mark.parametrize("upgrade", UPGRADES)
def test_a_store_in_such_a_file_is_upgraded_and_warned_of(tmp_path: Path, upgrade: Upgrade) -> None:
    url = utf16(tmp_path, f"CREATE TABLE {REMEMBERS[upgrade]} (version_num VARCHAR(32) PRIMARY KEY)")
    with opened(url) as engine:
        upgrade(engine)
        assert "is a database in UTF-16le" in (warning_of(engine) or "")
