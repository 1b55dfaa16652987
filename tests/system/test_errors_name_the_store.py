"""An error of a database says which of the two stores it is of, and where that is; without its password."""

from dataclasses import replace
from pathlib import Path

import pytest

from relay.urls import shown
from tests.conftest import Stores, write
from tests.relay.outages import Trouble, missing, not_a_database, not_initialised, without_rights
from tests.system.processes import relay, relay_at, running_relay
from tests.system.test_command_urls import NEED_A_DATABASE

OF_THE_GATEWAY = [("replay", "--all"), ("run", "--until-empty"), ("status",), ("verify",)]


def assistants(stores: Stores) -> str:
    return f"the assistant's database {shown(stores.source_url)}"


def gateways(stores: Stores) -> str:
    return f"the gateway's database {shown(stores.mirror_url)}"


def swapped(stores: Stores) -> Stores:
    """The assistant's database where `outages` takes it for the one to trouble."""
    return replace(stores, mirror_url=stores.source_url, mirror=stores.source)


def assert_the_gateway_is_named(stores: Stores, trouble: Trouble) -> None:
    stores.create()
    with trouble(stores):
        for command in OF_THE_GATEWAY:
            ended = relay(stores, *command)
            assert ended.code == 4, command
            assert gateways(stores) in ended.err, command
            assert assistants(stores) not in ended.err, command


@pytest.mark.parametrize("trouble", [missing, not_initialised])
def test_a_gateway_in_trouble_is_named(stores: Stores, trouble: Trouble) -> None:
    assert_the_gateway_is_named(stores, trouble)


@pytest.mark.only("sqlite", because="a server's database is no file")
def test_a_gateway_that_is_no_database_is_named(stores: Stores) -> None:
    assert_the_gateway_is_named(stores, not_a_database)


@pytest.mark.only("postgresql", because="a server can refuse to be read")
def test_a_gateway_that_refuses_to_be_read_is_named(stores: Stores) -> None:
    assert_the_gateway_is_named(stores, without_rights)


@pytest.mark.parametrize("command", NEED_A_DATABASE)
def test_an_assistants_database_that_is_missing_is_named(stores: Stores, command: tuple[str, ...]) -> None:
    with missing(swapped(stores)):
        ended = relay(stores, *command)
    assert ended.code == 4
    assert assistants(stores) in ended.only_line


def make_messages_unwritable(stores: Stores) -> None:
    """Opening the outbox finds nothing wrong: only what writes to it does."""
    if stores.source.dialect.name == "sqlite":
        write(
            stores.source,
            "CREATE TRIGGER no BEFORE UPDATE ON outbox_messages BEGIN SELECT raise(ABORT, 'not today'); END",
        )
    else:
        write(
            stores.source,
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not today'; END $$",
        )
        write(stores.source, "CREATE TRIGGER no BEFORE UPDATE ON outbox_messages FOR EACH ROW EXECUTE FUNCTION no()")


def test_a_store_that_fails_in_the_middle_of_a_command_is_named(stores: Stores) -> None:
    stores.create()
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1")
    make_messages_unwritable(stores)
    ended = relay(stores, "dead", "retry", "1")
    assert ended.code == 4
    assert ended.only_line == f"relay: {assistants(stores)} cannot be read: not today"


@pytest.mark.only("sqlite", because="a server's database is no file")
@pytest.mark.parametrize("name", ["assistant", "gateway"])
def test_init_names_the_store_that_it_cannot_upgrade(tmp_path: Path, backend: str, name: str) -> None:
    path = tmp_path / f"{name}.db"
    path.write_bytes(b"this is no database\n" * 500)
    path.chmod(0o600)
    ended = relay_at(tmp_path, "init")
    assert ended.code == 4
    assert f"the {name}'s database sqlite:///{name}.db" in ended.only_line


def test_a_relay_logs_which_database_its_outbox_is(stores: Stores) -> None:
    with running_relay(stores, RELAY_POLL_INTERVAL="0.2") as worker, missing(swapped(stores)):
        assert worker.wait_for("outbox_unreachable")["database"] == shown(stores.source_url)


@pytest.mark.only("postgresql", because="a file has no password")
def test_no_error_shows_a_password(stores: Stores) -> None:
    for option in ("--assistant-db", "--gateway"):
        url = f"{stores.source_url.partition('?')[0].replace('postgres@', 'postgres:sesame@')}_not?host=/nowhere"
        for command in NEED_A_DATABASE:
            ended = relay(stores, option, url, *command)
            assert "sesame" not in ended.err + ended.out
