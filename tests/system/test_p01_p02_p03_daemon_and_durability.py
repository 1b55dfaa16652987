"""P1, P2, P3: a change and its message are one, the daemon never touches the gateway, delivered means durable."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session

from assistant_store import create_invite, revoke_invite
from outbox import open_engine
from tests.conftest import Stores, rows, write
from tests.crash import run_killed_at_each_step
from tests.relay.rig import drain_all, draining, gateway_of
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


def _absent(path: Path) -> None:
    path.unlink()


def _fifo(path: Path) -> None:
    # Whoever opens it waits for ever: the subprocess would run into its timeout.
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("wreck", [lambda _: None, _absent, _fifo, _folder])
def test_p02_invites_change_the_same_whatever_became_of_the_gateway(
    stores: Stores, wreck: Callable[[Path], None]
) -> None:
    stores.mirror.dispose()
    wreck(stores.folder / "gateway.db")
    ended = subprocess.run(
        [sys.executable, "-c", DAEMON, stores.source_url],
        capture_output=True,
        timeout=20,
        check=True,
        cwd=stores.folder,
    )
    seen = json.loads(ended.stdout)
    assert ended.stderr == b""
    assert len(seen["ids"]) == 2
    assert len(stores.messages()) == 4
    files = [path for path in seen["opened"] if str(stores.folder) in path]
    assert any(path.endswith("assistant.db") for path in files)
    assert not any("gateway" in path for path in files)
    assert not any(path.startswith("socket:") for path in seen["opened"])
    strangers = ("relay", "gateway_store", "tenacity", "apscheduler", "click", "cli", "http", "requests")
    assert not [name for name in seen["modules"] if name.split(".")[0] in strangers]


def test_p02_a_locked_gateway_and_a_busy_relay_do_not_fail_a_create(stores: Stores) -> None:
    with running_relay(stores) as worker, Session(stores.mirror) as session, session.begin():
        session.connection()
        invite = stores.create().invite
        worker.wait_for("gateway_unreachable")
        again = stores.create().invite
        session.rollback()
        worker.wait_until_delivered(invite.id, again.id)


def test_p03_every_commit_of_the_relay_is_made_with_synchronous_full(stores: Stores) -> None:
    seen: set[tuple[str, int]] = set()

    def look(connection: Connection) -> None:
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        seen.add((Path(str(connection.engine.url.database)).name, level))

    stores.create()
    with gateway_of(stores) as gateway, draining(stores, gateway) as drain:
        event.listen(Engine, "commit", look)
        try:
            drain_all(drain)
        finally:
            event.remove(Engine, "commit", look)
    full = 2
    assert seen == {("gateway.db", full), ("assistant.db", full)}


def test_p03_another_process_sees_the_mirrored_row_before_the_message_is_settled(stores: Stores) -> None:
    invite = stores.create().invite
    found: list[str] = []
    query = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT id FROM ingress_invites').fetchall())"
    )

    def look(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if "UPDATE outbox_messages" in statement:
            path = stores.folder / "gateway.db"
            found.append(subprocess.run([sys.executable, "-c", query, path], capture_output=True, text=True).stdout)

    with draining(stores) as drain:
        event.listen(stores.source, "before_cursor_execute", look)
        drain_all(drain)
        event.remove(stores.source, "before_cursor_execute", look)
    assert found == [f"[('{invite.id}',)]\n"]
