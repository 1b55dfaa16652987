"""What every command promises: help, one JSON document where asked for, and 2 for what makes no sense."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli import main
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
    ("dead", "drop", "1", "--reason", "r"),
    ("prune",),
]
PRINTING = [("init",), ("status",), ("replay", "--all"), ("verify",), ("dead", "list"), ("prune",)]


def test_the_installed_command_starts_and_names_its_version() -> None:
    ended = subprocess.run([RELAY, "--version"], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith("relay, version ")


@pytest.mark.parametrize("command", [(), *COMMANDS, ("dead",), ("demo",)])
def test_every_command_explains_itself(tmp_path: Path, command: tuple[str, ...]) -> None:
    names = [word for word in command if word.isalpha()]
    ended = relay_at(tmp_path, *names, "--help")
    assert ended.code == 0
    assert ended.out.startswith("Usage: relay")
    assert ended.err == ""


def groups(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Group]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from groups(command, *path, name)


@pytest.mark.parametrize(
    ("path", "group"), list(groups(main)), ids=lambda one: " ".join(one) if isinstance(one, tuple) else ""
)
@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_help_says_of_each_command_all_that_it_does(
    tmp_path: Path, path: tuple[str, ...], group: click.Group, columns: str
) -> None:
    shown = " ".join(relay_at(tmp_path, *path, "--help", COLUMNS=columns).out.split())
    assert group.commands
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").split(".")[0].split())
        assert f"{name} {summary}." in shown


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
        ("RELAY_TRUSTED_UID", "root"),
    ],
)
def test_a_bad_setting_is_2_and_one_line_that_names_it(tmp_path: Path, name: str, value: str) -> None:
    ended = relay_at(tmp_path, "status", **{name: value})
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


def test_prune_deletes_what_is_settled_for_long_and_nothing_that_waits_or_is_dead(stores: Stores) -> None:
    for _ in range(4):
        stores.create()
    for seq, state in ((1, "delivered"), (2, "superseded"), (3, "dead")):
        write(stores.source, "UPDATE outbox_messages SET state = :s, settled_at = 1 WHERE seq = :n", s=state, n=seq)
    assert relay(stores, "prune", "--retention", "1d", "--json").json == {"pruned": 2}
    assert stores.states() == ["dead", "pending"]
    assert len(rows(stores.source, "SELECT id FROM assistant_ingress_invites")) == 4
