"""`relay init`: both stores are made or brought up to date, and what it does not know is left as it was."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect

from outbox import open_engine
from relay.urls import shown
from tests.conftest import Stores, write
from tests.databases import alter, database_url, server_database_in
from tests.system.processes import relay, relay_at


@pytest.fixture
def empty(tmp_path: Path, backend: str) -> Iterator[tuple[str, str]]:
    """Options that name two databases with nothing in them, or two files not made yet."""
    with database_url(backend, tmp_path, "a.db") as source, database_url(backend, tmp_path, "g.db") as mirror:
        yield f"--assistant-db={source}", f"--gateway={mirror}"


def test_init_creates_both_stores_and_twice_is_harmless(tmp_path: Path, empty: tuple[str, str]) -> None:
    assert [relay_at(tmp_path, *empty, "init").code for _ in range(2)] == [0, 0]
    assert relay_at(tmp_path, *empty, "status").code == 0
    assert relay_at(tmp_path, *empty, "verify").code == 0


@pytest.mark.only("sqlite", because="the files of PostgreSQL are its server's")
def test_init_creates_files_that_are_private_to_their_owner(tmp_path: Path, empty: tuple[str, str]) -> None:
    assert relay_at(tmp_path, *empty, "init").code == 0
    assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.db", "g.db")} == {0o600}


def test_init_refuses_a_database_of_unknown_shape_and_leaves_it_as_it_was(stores: Stores, backend: str) -> None:
    with database_url(backend, stores.folder, "odd.db") as url:
        engine = open_engine(url)
        write(engine, "CREATE TABLE ingress_invites (id TEXT PRIMARY KEY, surprise TEXT)")
        ended = relay(stores, "--gateway", url, "init")
        assert inspect(engine).get_table_names() == ["ingress_invites"]
        engine.dispose()
    assert ended.code == 4
    assert f"the gateway's database {shown(url)} cannot be upgraded" in ended.only_line
    assert "Nothing was changed" in ended.only_line


@pytest.mark.only("sqlite", because="a server's database is no file")
def test_init_refuses_a_file_that_is_no_database_and_leaves_it_as_it_was(stores: Stores) -> None:
    path, contents = stores.folder / "odd.db", b"this is no database\n" * 500
    path.write_bytes(contents)
    ended = relay(stores, "--gateway", f"sqlite:///{path}", "init")
    assert ended.code == 4
    assert f"the gateway's database sqlite:///{path} cannot be read" in ended.only_line
    assert path.read_bytes() == contents


@pytest.mark.only("sqlite", because="it is the server that makes a database of PostgreSQL")
def test_init_where_no_file_can_be_made_is_4(stores: Stores) -> None:
    ended = relay(stores, "--assistant-db", f"sqlite:///{stores.folder}/no/such/folder/a.db", "init")
    assert ended.code == 4
    assert "cannot create" in ended.only_line


@pytest.mark.only("postgresql", because="SQLite knows no roles")
def test_init_of_a_role_that_may_not_make_tables_is_4(stores: Stores, backend: str) -> None:
    with database_url(backend, stores.folder, "g.db") as url:
        alter(url, "SET role = 'pg_monitor'")
        ended = relay(stores, "--gateway", url, "init")
    assert ended.code == 4
    assert ended.only_line.startswith(f"relay: the gateway's database {shown(url)} cannot be read: permission denied")


@pytest.mark.only("postgresql", because="a server's databases have encodings of their own")
def test_init_refuses_a_new_store_that_could_not_keep_every_text_and_warns_of_one_that_is_there(stores: Stores) -> None:
    with server_database_in("LATIN1") as url:
        refused = relay(stores, "--gateway", url, "init")
        engine = open_engine(url)
        write(engine, "CREATE TABLE gateway_store_schema_version (version_num VARCHAR(32) PRIMARY KEY)")
        warned = relay(stores, "--gateway", url, "init")
        engine.dispose()
    assert refused.code == 4
    assert "LATIN1, not UTF8" in refused.only_line
    assert "createdb -E UTF8 -T template0" in refused.only_line
    assert warned.code == 0
    assert "LATIN1, not UTF8" in warned.err
