"""A store that is not there: one that was never made is made; one that was there is to be mounted or restored."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Stores, rows
from tests.databases import alter, database_url, end_connections, name_of
from tests.relay.outages import gone
from tests.relay.rig import create_many
from tests.socket.clients import gateway, url
from tests.system.processes import relay, relay_at, running_relay
from tests.system.untouched import contents

NEED_THE_GATEWAY = (("run", "--until-empty"), ("status",), ("verify",), ("replay", "--all"))
ANEW = "`relay init --new-gateway`, `relay run --new-gateway`, then `relay replay --all`"


def identity_of_the_gateway(stores: Stores) -> str:
    return str(rows(stores.mirror, "SELECT id FROM store_identity")[0]["id"])


def drained(stores: Stores) -> str:
    """The gateway's identity, which the outbox remembers from now on."""
    create_many(stores, 2)
    assert relay(stores, "run", "--until-empty").code == 0
    return identity_of_the_gateway(stores)


@contextmanager
def emptied(stores: Stores, backend: str) -> Iterator[None]:
    """The gateway's file is gone; on a server, where somebody must have made the database, there is an empty one."""
    with gone(stores.mirror):
        if backend == "sqlite":
            yield
            return
        with database_url(backend, stores.folder, "empty") as empty:
            end_connections(empty)
            alter(empty, f"RENAME TO {name_of(stores.mirror_url)}")
            try:
                yield
            finally:
                end_connections(stores.mirror_url)
                alter(stores.mirror_url, f"RENAME TO {name_of(empty)}")


@pytest.mark.only("sqlite", because="a server's database is made by hand")
def test_stores_that_were_never_made_are_made_by_init(tmp_path: Path) -> None:
    for command in (*NEED_THE_GATEWAY, ("run",)):
        ended = relay_at(tmp_path, *command)
        assert (ended.code, "assistant.db; `relay init` creates it" in ended.only_line) == (4, True)
    assert contents(tmp_path) == {}


@pytest.mark.only("sqlite", because="a server's database is made by hand")
def test_a_gateway_that_was_never_drained_into_is_made_by_init(stores: Stores) -> None:
    stores.create()
    with gone(stores.mirror):
        for command in NEED_THE_GATEWAY:
            ended = relay(stores, *command)
            assert (ended.code, "gateway.db; `relay init` creates it" in ended.err) == (4, True)


@pytest.mark.parametrize("command", NEED_THE_GATEWAY, ids=" ".join)
def test_a_gateway_that_was_drained_into_is_to_be_mounted_or_restored(
    stores: Stores, backend: str, command: tuple[str, ...]
) -> None:
    identity = drained(stores)
    stores.create()
    with emptied(stores, backend):
        ended = relay(stores, *command)
        assert ended.code == 4
        assert "creates it" not in ended.err
        for words in (f"gateway {identity}", name_of(stores.mirror_url), "mount or restore it", ANEW):
            assert words in ended.err


def test_init_makes_no_empty_gateway_in_the_place_of_one_that_was_drained_into(stores: Stores, backend: str) -> None:
    identity = drained(stores)
    with emptied(stores, backend):
        before = contents(stores.folder) if backend == "sqlite" else {}
        refused = relay(stores, "init")
        assert (refused.code, refused.out) == (4, "")
        assert f"gateway {identity}" in refused.only_line
        assert "mount or restore it" in refused.only_line
        if backend == "sqlite":
            assert contents(stores.folder) == before
    assert relay(stores, "init").code == 0
    assert identity_of_the_gateway(stores) == identity


@pytest.mark.only("sqlite", because="`gone` gives a server's database its name back")
def test_a_gateway_lost_for_good_is_made_anew_by_the_cure_that_is_named(stores: Stores) -> None:
    drained(stores)
    stores.mirror.dispose()
    (stores.folder / "gateway.db").unlink()
    made = relay(stores, "init", "--new-gateway")
    assert (made.code, "relay run --new-gateway" in made.only_line) == (0, True)
    stores.add_contact("co-1")
    assert relay(stores, "run", "--until-empty").code == 4
    assert relay(stores, "run", "--until-empty", "--new-gateway").code == 0
    assert relay(stores, "replay", "--all").code == 0
    assert relay(stores, "verify").code == 0


def test_a_new_gateway_elsewhere_is_made_and_init_says_what_must_follow(stores: Stores, backend: str) -> None:
    drained(stores)
    with database_url(backend, stores.folder, "other.db") as other:
        ended = relay(stores, "--gateway", other, "init")
        assert ended.code == 0
        assert "`relay run --new-gateway`, then `relay replay --all`" in ended.only_line
        assert relay(stores, "--gateway", other, "init").err == ""


@pytest.mark.only("sqlite", because="a server's database is in no folder")
def test_a_folder_that_is_not_there_is_named_and_none_is_made(tmp_path: Path) -> None:
    for option in "--gateway", "--assistant-db":
        for command in (("init",), ("status",), ("verify",)):
            ended = relay_at(tmp_path, f"{option}=sqlite:///{tmp_path}/mnt/x.db", *command)
            assert (ended.code, f"there is no folder {tmp_path}/mnt; mount it or make it" in ended.err) == (4, True)
            assert "x.db; `relay init` creates it" not in ended.err
    assert not (tmp_path / "mnt").exists()


@pytest.mark.only("sqlite", because="a server's database is made by hand")
def test_an_assistant_whose_invites_the_gateway_mirrors_is_not_made_anew(stores: Stores) -> None:
    drained(stores)
    assistant = rows(stores.source, "SELECT id FROM outbox_identity")[0]["id"]
    with gone(stores.source):
        for command in (("init",), *NEED_THE_GATEWAY):
            ended = relay(stores, *command)
            assert ended.code == 4
            assert "creates it" not in ended.only_line
            for words in (f"assistant {assistant}", "assistant.db", "mount or restore it", ANEW):
                assert words in ended.only_line


@pytest.mark.only("sqlite", because="a server keeps its own log")
def test_a_log_without_its_database_is_not_lost_to_an_empty_one(tmp_path: Path) -> None:
    assert relay_at(tmp_path, "init").code == 0
    (tmp_path / "gateway.db").unlink()
    (tmp_path / "gateway.db-wal").write_bytes(b"all that was not yet copied")
    before = contents(tmp_path)
    for command in ("init",), ("init", "--new-gateway"), ("status",), ("verify",):
        ended = relay_at(tmp_path, *command)
        assert (ended.code, "gateway.db-wal is there: put the database back" in ended.only_line) == (4, True)
        assert contents(tmp_path).items() >= before.items()
        assert not (tmp_path / "gateway.db").exists()


@pytest.mark.only("sqlite", because="a server's files are its own")
@pytest.mark.parametrize("lost", ["assistant.db", "gateway.db", ""])
def test_status_makes_no_file(tmp_path: Path, lost: str) -> None:
    assert relay_at(tmp_path, "init").code == 0
    if lost:
        (tmp_path / lost).unlink()
    before = contents(tmp_path)
    assert relay_at(tmp_path, "status").code == (4 if lost else 0)
    assert contents(tmp_path) == before


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_ready_is_said_of_a_socket_that_is_served(stores: Stores) -> None:
    alone = relay(stores, "--gateway", url(stores), "init")
    assert (alone.code, alone.out) == (4, "")
    assert "the assistant's database is ready, and the gateway is not" in alone.only_line
    assert url(stores) in alone.only_line
    with gateway(stores):
        served = relay(stores, "--gateway", url(stores), "init")
    assert (served.code, "Both stores are ready" in served.out, served.err) == (0, True, "")


@pytest.mark.only("sqlite", because="its file can be moved away under a relay that runs")
def test_a_relay_whose_gateway_is_unmounted_says_so_and_goes_on_with_it(stores: Stores) -> None:
    with running_relay(stores, RELAY_PROBE_LONGEST="0.2") as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        with gone(stores.mirror):
            waits = stores.create().invite.id
            while "mount or restore it, or, if it is lost" not in worker.wait_for("gateway_unreachable")["reason"]:
                continue
        worker.wait_until_delivered(waits)
        assert worker.terminate() == 0


def test_a_relay_started_while_its_gateway_is_away_waits_for_it(stores: Stores) -> None:
    waits = stores.create().invite.id
    with gone(stores.mirror):
        worker = running_relay(stores, RELAY_PROBE_LONGEST="0.2")
        started = worker.__enter__()
        started.wait_for("gateway_unreachable")
    try:
        started.wait_until_delivered(waits)
    finally:
        worker.__exit__(None, None, None)
