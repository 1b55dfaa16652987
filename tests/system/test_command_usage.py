"""What every command promises: help, one line and the right exit code for each trouble, and nothing created."""

import json
import stat
import subprocess

import pytest

from tests.conftest import Stores, rows, write
from tests.system.processes import RELAY, relay, relay_at

COMMANDS = [
    ("init",),
    ("run", "--until-empty"),
    ("status",),
    ("replay", "--all"),
    ("verify",),
    ("dead", "list"),
    ("dead", "show", "1"),
    ("dead", "retry", "1"),
    ("prune",),
]
NEED_A_DATABASE = COMMANDS[1:]
PRINTING = [("init",), ("status",), ("replay", "--all"), ("verify",), ("dead", "list"), ("prune",)]


def test_the_installed_command_starts_and_names_its_version() -> None:
    ended = subprocess.run([RELAY, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("relay, version ")


@pytest.mark.parametrize("command", [(), *COMMANDS, ("dead",), ("demo",)])
def test_every_command_explains_itself(stores: Stores, command: tuple[str, ...]) -> None:
    names = [word for word in command if word.isalpha()]
    ended = relay_at(stores.folder, *names, "--help")
    assert ended.code == 0
    assert ended.out.startswith("Usage: relay")
    assert ended.err == ""


@pytest.mark.parametrize("command", NEED_A_DATABASE)
def test_a_missing_database_is_4_and_one_line_and_creates_nothing(stores: Stores, command: tuple[str, ...]) -> None:
    empty = stores.folder / "empty"
    empty.mkdir()
    ended = relay_at(
        stores.folder, "--assistant-db", f"sqlite:///{empty}/a.db", "--gateway", f"sqlite:///{empty}/g.db", *command
    )
    assert ended.code == 4
    assert "relay init" in ended.only_line
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize("command", NEED_A_DATABASE)
def test_a_database_without_an_outbox_is_4_and_one_line(stores: Stores, command: tuple[str, ...]) -> None:
    ended = relay_at(stores.folder, "--assistant-db", stores.mirror_url, "--gateway", stores.mirror_url, *command)
    assert ended.code == 4
    assert "`relay init`" in ended.only_line


@pytest.mark.parametrize("command", NEED_A_DATABASE)
def test_a_file_that_is_no_database_is_4_and_one_line(stores: Stores, command: tuple[str, ...]) -> None:
    odd = stores.folder / "odd.db"
    odd.write_bytes(b"this is no database\n" * 500)
    ended = relay_at(stores.folder, "--assistant-db", f"sqlite:///{odd}", "--gateway", stores.mirror_url, *command)
    assert ended.code == 4
    assert "file is not a database" in ended.only_line


@pytest.mark.parametrize("url", ["unix://", "unix:///", "unix://relative.sock", "unix:///" + "x" * 108])
@pytest.mark.parametrize("command", [("status",), ("init",)])
def test_a_socket_url_that_cannot_be_used_is_2_and_names_the_option(
    stores: Stores, url: str, command: tuple[str, ...]
) -> None:
    ended = relay(stores, "--gateway", url, *command)
    assert ended.code == 2
    assert ended.only_line.startswith("relay: --gateway")


def test_a_socket_takes_invites_but_shows_none(stores: Stores) -> None:
    ended = relay(stores, "--gateway", f"unix://{stores.folder}/none.sock", "verify")
    assert ended.code == 4
    assert "sqlite:///PATH" in ended.only_line


def test_an_assistants_database_is_no_socket(stores: Stores) -> None:
    ended = relay(stores, "--assistant-db", "unix:///run/gateway.sock", "status")
    assert ended.code == 2
    assert ended.only_line.startswith("relay: --assistant-db")


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?uri=true",
        "sqlite://host/x.db",
        "sqlite:///x.db?timeout=abc",
        "sqlite+aiosqlite:///x.db",
        "postgresql+psycopg://h:port/x",
        "postgresql+psycopg://host/name",
        "mysql://host/name",
    ],
)
@pytest.mark.parametrize("option", ["--assistant-db", "--gateway"])
@pytest.mark.parametrize("command", [("status",), ("init",)])
def test_a_url_that_cannot_be_used_is_2_and_names_the_option(
    stores: Stores, url: str, option: str, command: tuple[str, ...]
) -> None:
    ended = relay(stores, option, url, *command)
    assert ended.code == 2
    assert ended.only_line.startswith(f"relay: {option}")
    assert "sqlite:///" in ended.only_line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RELAY_BATCH_SIZE", "0"),
        ("RELAY_BATCH_SIZE", "many"),
        ("RELAY_LEASE", "0.1"),
        ("RELAY_LEASE", "3600"),
        ("RELAY_LOG_FORMAT", "xml"),
        ("RELAY_RETENTION", "-1"),
        ("RELAY_POLL_INTERVAL", "soon"),
    ],
)
def test_a_bad_setting_is_2_and_one_line_that_names_it(stores: Stores, name: str, value: str) -> None:
    ended = relay(stores, "status", **{name: value})
    assert ended.code == 2
    assert f"bad setting: {name}: " in ended.only_line


def test_the_databases_can_be_named_in_the_environment(stores: Stores) -> None:
    env = {"RELAY_ASSISTANT_DB": stores.source_url, "RELAY_GATEWAY": stores.mirror_url}
    assert relay_at(stores.folder, "status", **env).code == 0


@pytest.mark.parametrize("command", PRINTING)
def test_json_is_one_valid_document_and_nothing_else(stores: Stores, command: tuple[str, ...]) -> None:
    after = relay(stores, *command, "--json")
    before = relay(stores, "--json", *command)
    assert (after.code, before.code) == (0, 0)
    assert json.loads(after.out).keys() == json.loads(before.out).keys()
    assert after.out.endswith("}\n")


@pytest.mark.parametrize(
    "command",
    [
        ("dead", "show", "7"),
        ("dead", "show", str(2**64)),
        ("dead", "show", "x"),
        ("dead", "retry"),
        ("dead", "retry", "1", "--all"),
        ("prune", "--retention", "soon"),
        ("verify", "--since", "2026-05-13T14:11:00"),
        ("bogus",),
    ],
)
def test_what_makes_no_sense_is_2(stores: Stores, command: tuple[str, ...]) -> None:
    ended = relay(stores, *command)
    assert ended.code == 2
    assert ended.out == ""
    assert "Traceback" not in ended.err


def test_init_creates_both_stores_private_and_twice_is_harmless(stores: Stores) -> None:
    new = stores.folder / "new"
    new.mkdir()
    args = ("--assistant-db", f"sqlite:///{new}/a.db", "--gateway", f"sqlite:///{new}/g.db")
    assert [relay_at(stores.folder, *args, "init").code for _ in range(2)] == [0, 0]
    assert {stat.S_IMODE((new / name).stat().st_mode) for name in ("a.db", "g.db")} == {0o600}
    assert relay_at(stores.folder, *args, "status").code == 0


@pytest.mark.parametrize("odd", ["CREATE TABLE ingress_invites (id TEXT PRIMARY KEY, surprise BLOB)", None])
def test_init_refuses_a_database_of_unknown_shape_and_leaves_it_as_it_was(stores: Stores, odd: str | None) -> None:
    path = stores.folder / "odd.db"
    if odd is None:
        path.write_bytes(b"this is no database\n" * 500)
    else:
        subprocess.run(
            ["python3", "-c", f"import sqlite3; sqlite3.connect({str(path)!r}).execute({odd!r})"], check=True
        )
    ended = relay(stores, "--gateway", f"sqlite:///{path}", "init")
    assert ended.code == 4
    assert "the gateway's database" in ended.only_line


def test_init_where_no_file_can_be_made_is_4(stores: Stores) -> None:
    ended = relay(stores, "--assistant-db", f"sqlite:///{stores.folder}/no/such/folder/a.db", "init")
    assert ended.code == 4
    assert "cannot create" in ended.only_line


def test_prune_deletes_what_is_settled_for_long_and_nothing_that_waits_or_is_dead(stores: Stores) -> None:
    for _ in range(4):
        stores.create()
    for seq, state in ((1, "delivered"), (2, "superseded"), (3, "dead")):
        write(stores.source, "UPDATE outbox_messages SET state = :s, settled_at = 1 WHERE seq = :n", s=state, n=seq)
    assert relay(stores, "prune", "--retention", "1d", "--json").json == {"pruned": 2}
    assert stores.states() == ["dead", "pending"]
    assert len(rows(stores.source, "SELECT id FROM assistant_ingress_invites")) == 4
