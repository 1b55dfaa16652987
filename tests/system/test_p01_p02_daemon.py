"""P1, P2: a change and its message are one, and the daemon never touches the gateway."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from assistant_store import create_invite, revoke_invite
from outbox import open_engine
from tests.conftest import Stores, rows, write
from tests.crash import run_killed_at_each_step
from tests.relay.outages import Trouble, a_folder, missing, write_locked
from tests.system.processes import running_relay


def create_and_revoke(url: str) -> None:
    engine = open_engine(url)
    with Session(engine) as session, session.begin():
        created = create_invite(session, source_channel="telegram", contact_id="co-1")
    with Session(engine) as session, session.begin():
        revoke_invite(session, created.invite.id)
    engine.dispose()


def test_p01_a_daemon_killed_at_any_step_leaves_a_change_and_its_message_or_neither(stores: Stores) -> None:
    seen: set[tuple[int, int]] = set()

    def arrange() -> tuple[str]:
        changes = rows(stores.source, "SELECT status FROM assistant_ingress_invites")
        made = len(changes) + sum(row["status"] == "revoked" for row in changes)
        seen.add((made, len(stores.messages())))
        write(stores.source, "DELETE FROM assistant_ingress_invites")
        write(stores.source, "DELETE FROM outbox_messages")
        return (stores.source_url,)

    kills = run_killed_at_each_step(create_and_revoke, arrange)
    arrange()
    assert kills >= 6
    assert seen == {(0, 0), (1, 1), (2, 2)}


DAEMON = """
import json, os, sys
from sqlalchemy.orm import Session
from outbox import open_engine
from assistant_store import create_invite, revoke_invite, record_invite_use
engine = open_engine(sys.argv[1])
opened = set()
with Session(engine) as session, session.begin():
    ids = [create_invite(session, source_channel="telegram", contact_id="co-1").invite.id for _ in range(2)]
    revoke_invite(session, ids[0]); record_invite_use(session, ids[1])
    for number in os.listdir("/proc/self/fd"):
        if os.path.lexists(f"/proc/self/fd/{number}"):
            opened.add(os.readlink(f"/proc/self/fd/{number}"))
engine.dispose()
print(json.dumps({"ids": ids, "opened": sorted(opened), "modules": sorted(sys.modules)}))
"""


@contextmanager
def in_order(stores: Stores) -> Iterator[None]:
    yield


@contextmanager
def a_fifo(stores: Stores) -> Iterator[None]:
    # Whoever opens it waits for ever: the subprocess would run into its timeout.
    with missing(stores):
        os.mkfifo(stores.folder / "gateway.db")
        yield
        (stores.folder / "gateway.db").unlink()


@pytest.mark.parametrize("trouble", [in_order, missing, write_locked])
def test_p02_invites_change_the_same_whatever_became_of_the_gateway(stores: Stores, trouble: Trouble) -> None:
    with trouble(stores):
        assert_the_daemon_goes_on_alone(stores)


@pytest.mark.only("sqlite", because="a server's database is no file")
@pytest.mark.parametrize("trouble", [a_folder, a_fifo])
def test_p02_invites_change_the_same_whatever_stands_in_the_place_of_the_gateways_file(
    stores: Stores, trouble: Trouble
) -> None:
    with trouble(stores):
        assert_the_daemon_goes_on_alone(stores)


def assert_the_daemon_goes_on_alone(stores: Stores) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DAEMON, stores.source_url],
        capture_output=True,
        timeout=60,
        check=True,
        cwd=stores.folder,
    )
    seen = json.loads(ended.stdout)
    assert ended.stderr == b""
    assert len(seen["ids"]) == 2
    assert len(stores.messages()) == 4
    files = {Path(path).name for path in seen["opened"] if str(stores.folder) in path}
    sockets = [path for path in seen["opened"] if path.startswith("socket:")]
    if stores.source.dialect.name == "sqlite":
        assert "assistant.db" in files
        assert {name.split("-")[0] for name in files} == {"assistant.db"}
        assert sockets == []
    else:
        assert files == set()
        assert len(sockets) == 1, "the one to its own database"
    strangers = ("relay", "gateway_store", "tenacity", "apscheduler", "click", "cli", "http", "requests")
    assert not [name for name in seen["modules"] if name.split(".")[0] in strangers]


def test_p02_a_locked_gateway_and_a_busy_relay_do_not_fail_a_create(stores: Stores) -> None:
    with running_relay(stores) as worker:
        with write_locked(stores):
            invite = stores.create().invite
            worker.wait_for("gateway_unreachable")
            again = stores.create().invite
        worker.wait_until_delivered(invite.id, again.id)
