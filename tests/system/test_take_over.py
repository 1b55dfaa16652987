"""The commands on the real gateway's own database: they leave it as it is until they are told to take it over."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import inspect

import gateway_store
from outbox import open_engine
from outbox.database.sqlite import sqlite_path
from tests.conftest import Stores, write
from tests.databases import database_url
from tests.gateway_store.catalogue import content, run
from tests.gateway_store.shapes import make
from tests.gateway_store.test_take_over import MARKS
from tests.system.processes import Ended, relay, relay_at
from tests.system.untouched import contents

COMMANDS = (("init",), ("run",), ("run", "--until-empty"), ("status",))


@pytest.fixture
def theirs(tmp_path: Path, backend: str) -> Iterator[str]:
    """The real gateway's database, alone in its folder."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    with database_url(backend, folder, "theirs.db") as url:
        make(url, "all columns", *MARKS.values(), invites=3)
        yield url


def tables_of(url: str) -> list[str]:
    """None where there is no file, and none is made."""
    engine = open_engine(url, create=False)
    path = sqlite_path(engine)
    try:
        return [] if path is not None and not path.exists() else inspect(engine).get_table_names()
    finally:
        engine.dispose()


@pytest.mark.parametrize("found", [["verify"], ["verify", "--id", "inv-000000"]], ids=" ".join)
def test_its_rows_are_compared_without_a_touch(stores: Stores, theirs: str, found: list[str]) -> None:
    """A socket shows no rows: whoever drains through the real gateway's has its database only to compare with."""
    before, files = content(theirs), contents(stores.folder / "theirs")
    ended = relay(stores, "--gateway", theirs, *found, "--json")
    assert ended.code == 1
    assert {one["kind"] for one in ended.json["differences"]} == {"extra"}
    assert contents(stores.folder / "theirs") == files
    assert content(theirs) == before


def test_what_has_not_even_its_rows_cannot_be_compared(stores: Stores, theirs: str) -> None:
    run(theirs, "DROP TABLE ingress_invites")
    before, files = content(theirs), contents(stores.folder / "theirs")
    ended = relay(stores, "--gateway", theirs, "verify")
    assert (ended.code, "another program's" in ended.only_line) == (4, True)
    assert contents(stores.folder / "theirs") == files
    assert content(theirs) == before


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_writes_nothing_to_the_real_gateways_database(
    stores: Stores, theirs: str, command: tuple[str, ...]
) -> None:
    stores.create()
    before, files = content(theirs), contents(stores.folder / "theirs")
    ended = relay(stores, "--gateway", theirs, *command)
    assert ended.code == 4
    assert "another program's" in ended.err
    assert "--gateway unix:///PATH" in ended.err
    assert "never start the other program on it again" in ended.err
    assert contents(stores.folder / "theirs") == files
    assert content(theirs) == before
    assert stores.states() == ["pending"]


def test_init_that_refuses_the_gateways_database_makes_nothing_of_the_assistants_either(
    tmp_path: Path, theirs: str, backend: str
) -> None:
    with database_url(backend, tmp_path, "a.db") as source:
        before, files = tables_of(source), contents(tmp_path)
        assert relay_at(tmp_path, f"--assistant-db={source}", f"--gateway={theirs}", "init").code == 4
        assert contents(tmp_path) == files
        assert tables_of(source) == before == []


def test_init_takes_over_when_told_so_warns_and_later_needs_no_word(tmp_path: Path, theirs: str, backend: str) -> None:
    with database_url(backend, tmp_path, "a.db") as source:
        both = f"--assistant-db={source}", f"--gateway={theirs}"
        taken = relay_at(tmp_path, *both, "init", "--take-over")
        assert (taken.code, "never start the other program" in taken.only_line) == (0, True)
        again = relay_at(tmp_path, *both, "init")
        assert (again.code, again.err) == (0, "")
        assert relay_at(tmp_path, *both, "run", "--until-empty").code == 0
        assert relay_at(tmp_path, *both, "status").code == 0


def test_the_server_of_a_socket_refuses_the_real_gateways_database(tmp_path: Path, theirs: str) -> None:
    before, files = content(theirs), contents(tmp_path / "theirs")
    ended = relay_at(tmp_path, "gateway", f"--listen=unix://{tmp_path}/s/g.sock", f"--db={theirs}")
    assert ended.code == 4
    assert "--take-over" in ended.only_line
    assert contents(tmp_path / "theirs") == files
    assert content(theirs) == before


def test_the_daemons_database_may_have_such_marks(tmp_path: Path, backend: str) -> None:
    with database_url(backend, tmp_path, "a.db") as source, database_url(backend, tmp_path, "g.db") as mirror:
        run(source, *MARKS.values())
        ended: Ended = relay_at(tmp_path, f"--assistant-db={source}", f"--gateway={mirror}", "init")
        assert (ended.code, ended.err) == (0, "")


@pytest.mark.only("sqlite", because="a server's log is its own")
@pytest.mark.parametrize("is_open", [True, False], ids=["running", "crashed"])
def test_the_log_of_its_program_is_neither_copied_nor_deleted(stores: Stores, theirs: str, is_open: bool) -> None:
    engine = open_engine(theirs)
    path = sqlite_path(engine)
    assert path is not None
    try:
        write(engine, "UPDATE contacts SET colour = 'blue'")
        if not is_open:
            left = stores.folder / "left"
            shutil.copytree(path.parent, left, ignore=shutil.ignore_patterns("*-shm"))
            path = left / path.name
        log = path.with_name("theirs.db-wal")
        before = path.read_bytes(), log.read_bytes()
        assert len(before[1]) > 0
        for command in COMMANDS:
            ended = relay(stores, "--gateway", f"sqlite:///{path}", *command)
            assert (ended.code, "another program's" in ended.err) == (4, True)
            assert (path.read_bytes(), log.read_bytes()) == before
    finally:
        engine.dispose()


def test_a_store_of_ours_that_gets_such_a_table_later_stays_ours(stores: Stores) -> None:
    write(stores.mirror, MARKS["its own record"])
    gateway_store.upgrade(stores.mirror)
    assert relay(stores, "status").code == 0
