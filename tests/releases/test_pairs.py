"""Which releases work beside each other: every pair in `docs/upgrading.md`, with the release before as it was built."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import assistant_store
import gateway_store
from outbox import open_engine
from tests.conftest import Stores, rows
from tests.databases import EMPTY, database_url
from tests.relay.rig import create_many
from tests.socket.clients import gateway, url
from tests.system.processes import Ended, relay

WHEEL = Path(__file__).with_name("invite_relay-0.1.0-py3-none-any.whl")
CREATE = """
import sys
from sqlalchemy.orm import Session
import assistant_store
from outbox import open_engine
assert assistant_store.__file__.startswith(sys.argv[1]), assistant_store.__file__
engine = open_engine(sys.argv[2])
with Session(engine) as session, session.begin():
    made = assistant_store.create_invite(session, source_channel="telegram", contact_id="co-1").invite
with Session(engine) as session, session.begin():
    assert assistant_store.revoke_invite(session, made.id) is not None
print(made.id)
"""
CONTACT_OF_OLD = """
import sys
from sqlalchemy.orm import Session
import gateway_store
from outbox import open_engine
with Session(open_engine(sys.argv[2])) as session, session.begin():
    gateway_store.upsert_contact(session, id="co-1", display_name="x")
"""


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release before, unpacked; Alembic reads its scripts from files."""
    folder = tmp_path_factory.mktemp("release-0.1.0")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(folder)
    return folder


def with_old(old: Path, *args: str, **env: str) -> Ended:
    """Python with the release before; ends within a minute."""
    done = subprocess.run(
        [sys.executable, *args],
        env=os.environ | {"PYTHONPATH": str(old)} | env,
        cwd=old,
        capture_output=True,
        timeout=60,
    )
    return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())


def old_relay(old: Path, source: str, mirror: str, *args: str) -> Ended:
    return with_old(old, "-m", "cli", "--assistant-db", source, "--gateway", mirror, *args)


def old_daemon(old: Path, source: str) -> str:
    """Creates an invite and revokes it; its id."""
    done = with_old(old, "-c", CREATE, str(old), source)
    assert done.code == 0, done.err
    return done.out.strip()


@pytest.fixture
def old_pair(old: Path, backend: str, tmp_path: Path) -> Iterator[Stores]:
    """Both databases as the release before made them, with a contact, and an invite that was revoked."""
    with (
        database_url(backend, tmp_path, "assistant.db", EMPTY) as source,
        database_url(backend, tmp_path, "gateway.db", EMPTY) as mirror,
    ):
        assert old_relay(old, source, mirror, "init").code == 0
        assert with_old(old, "-c", CONTACT_OF_OLD, "", mirror).code == 0
        old_daemon(old, source)
        engines = open_engine(source), open_engine(mirror)
        yield Stores(tmp_path, source, mirror, *engines)
        for engine in engines:
            engine.dispose()


def statuses(stores: Stores) -> list[str]:
    return [str(row["status"]) for row in rows(stores.mirror, "SELECT status FROM ingress_invites ORDER BY id")]


def test_an_upgrade_keeps_what_waits_and_delivers_it(old_pair: Stores) -> None:
    assert relay(old_pair, "init").code == 0
    assert relay(old_pair, "run", "--until-empty").code == 0
    assert relay(old_pair, "verify").code == 0
    assert statuses(old_pair) == ["revoked"]


def test_a_daemon_of_the_release_before_goes_on_in_an_upgraded_database(old: Path, stores: Stores) -> None:
    invite = old_daemon(old, stores.source_url)
    assert {row["destination"] for row in stores.messages()} == {"gateway"}
    assert relay(stores, "run", "--until-empty").code == 0
    mirrored = stores.mirrored(invite)
    assert mirrored is not None
    assert mirrored.status == "revoked"


def test_a_daemon_of_this_release_works_before_the_database_is_upgraded(old: Path, old_pair: Stores) -> None:
    old_pair.revoke(old_pair.create().invite.id)
    assert old_relay(old, old_pair.source_url, old_pair.mirror_url, "run", "--until-empty").code == 0
    assert statuses(old_pair) == ["revoked", "revoked"]


@pytest.mark.parametrize("command", [["run"], ["status"], ["verify"], ["replay", "--all"], ["dead", "list"], ["prune"]])
def test_commands_of_this_release_say_that_the_database_must_be_upgraded(old_pair: Stores, command: list[str]) -> None:
    ended = relay(old_pair, *command)
    assert ended.code == 4
    assert "relay init" in ended.only_line


def test_a_relay_of_the_release_before_says_so_in_an_upgraded_outbox_and_loses_nothing(
    old: Path, stores: Stores
) -> None:
    create_many(stores, 3)
    ended = old_relay(old, stores.source_url, stores.mirror_url, "run", "--until-empty")
    assert ended.code == 4
    assert stores.states() == ["pending"] * 3
    assert relay(stores, "run", "--until-empty").code == 0
    assert relay(stores, "verify").code == 0


def test_a_relay_of_this_release_says_that_the_gateways_database_must_be_upgraded(old: Path, old_pair: Stores) -> None:
    assistant_store.upgrade(old_pair.source)
    ended = relay(old_pair, "run", "--until-empty")
    assert ended.code == 4
    assert "relay init" in ended.err
    assert set(old_pair.states()) == {"pending"}


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_a_relay_of_this_release_drains_through_a_server_of_the_release_before(old: Path, old_pair: Stores) -> None:
    assistant_store.upgrade(old_pair.source)
    with serving_old(old, old_pair):
        assert relay(old_pair, "--gateway", url(old_pair), "run", "--until-empty").code == 0
    assert statuses(old_pair) == ["revoked"]


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_a_relay_of_the_release_before_drains_through_a_server_of_this_release(old: Path, old_pair: Stores) -> None:
    with gateway(old_pair):
        ended = old_relay(old, old_pair.source_url, url(old_pair), "run", "--until-empty")
        assert ended.code == 0, ended.err
    assert statuses(old_pair) == ["revoked"]


def test_a_relay_of_the_release_before_drains_into_an_upgraded_gateways_database(old: Path, old_pair: Stores) -> None:
    gateway_store.upgrade(old_pair.mirror)
    assert old_relay(old, old_pair.source_url, old_pair.mirror_url, "run", "--until-empty").code == 0
    assert statuses(old_pair) == ["revoked"]


def test_a_release_that_knows_no_such_schema_refuses_to_upgrade_it(old: Path, stores: Stores) -> None:
    ended = old_relay(old, stores.source_url, stores.mirror_url, "init")
    assert ended.code == 4
    assert "later release" in ended.err


@contextmanager
def serving_old(old: Path, stores: Stores) -> Iterator[None]:
    command = [sys.executable, "-m", "cli", "gateway", "--listen", url(stores), "--db", stores.mirror_url]
    environment = os.environ | {"PYTHONPATH": str(old), "RELAY_LOG_FORMAT": "json"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, cwd=old)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert b"listening" in line, line + process.stderr.read()
        yield
    finally:
        process.terminate()
        process.communicate(timeout=60)
