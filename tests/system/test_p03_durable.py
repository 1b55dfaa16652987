"""P3: delivered means durable. A message is settled only after the gateway's commit is on disk."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event, make_url

from tests.conftest import Stores, rows, stores_at
from tests.databases import name_of
from tests.postgres import Cluster, new_folder
from tests.relay.rig import create_many, drain_all, draining, gateway_of
from tests.system.processes import relay, running_relay

# SQLite's FULL; PostgreSQL waits for its log as well, unless told not to.
DURABLE = {"sqlite": ("PRAGMA synchronous", 2), "postgresql": ("SHOW synchronous_commit", "on")}
LOOK_AT_THE_MIRROR = {
    "sqlite": "import sqlite3, sys; found = sqlite3.connect(sys.argv[1])",
    "postgresql": "import psycopg, sys; found = psycopg.connect(sys.argv[1])",
}


def test_p03_every_commit_of_the_relay_waits_for_the_disk(stores: Stores, backend: str) -> None:
    question, durable = DURABLE[backend]
    seen: set[tuple[str, object]] = set()

    def look(connection: Connection) -> None:
        seen.add((name_of(str(connection.engine.url)), connection.exec_driver_sql(question).scalar_one()))

    stores.create()
    with gateway_of(stores) as gateway, draining(stores, gateway) as drain:
        event.listen(Engine, "commit", look)
        try:
            drain_all(drain)
        finally:
            event.remove(Engine, "commit", look)
    assert seen == {(name_of(stores.mirror_url), durable), (name_of(stores.source_url), durable)}


def test_p03_another_process_sees_the_mirrored_row_before_the_message_is_settled(stores: Stores, backend: str) -> None:
    invite = stores.create().invite
    found: list[str] = []
    query = f"{LOOK_AT_THE_MIRROR[backend]}.execute('SELECT id FROM ingress_invites').fetchall(); print(found)"
    where = {"sqlite": make_url(stores.mirror_url).database, "postgresql": stores.mirror_url.replace("+psycopg", "")}

    def look(_c: object, _cursor: object, statement: str, *_: object) -> None:
        if "UPDATE outbox_messages" in statement:
            command = [sys.executable, "-c", query, str(where[backend])]
            found.append(subprocess.run(command, capture_output=True, text=True).stdout)

    with draining(stores) as drain:
        event.listen(stores.source, "before_cursor_execute", look)
        drain_all(drain)
        event.remove(stores.source, "before_cursor_execute", look)
    assert found == [f"[('{invite.id}',)]\n"]


@pytest.fixture
def server() -> Iterator[Cluster]:
    """A server that may crash, as careful with its log as it is unless told otherwise."""
    with Cluster(new_folder()) as made:
        yield made


def test_p03_what_is_settled_survives_a_crash_of_the_gateways_server(server: Cluster, tmp_path: Path) -> None:
    source_url = f"sqlite:///{tmp_path / 'assistant.db'}"
    with stores_at(tmp_path, source_url, server.url()) as stores:
        ids = create_many(stores, 500)
        with running_relay(stores, RELAY_BATCH_SIZE="5", RELAY_PROBE_LONGEST="0.2") as worker:
            worker.wait_for("delivered")
            server.stop(signal.SIGQUIT)
            worker.wait_for("gateway_unreachable")
            settled = {row["key"] for row in stores.messages("state = 'delivered'")}
            worker.kill()
        server.start()
        mirrored = {row["id"] for row in rows(stores.mirror, "SELECT id FROM ingress_invites")}
        assert 0 < len(settled) < len(ids)
        assert settled <= mirrored

        assert relay(stores, "run", "--until-empty").code == 0
        assert {(row["state"], row["attempts"]) for row in stores.messages()} == {("delivered", 0)}
        assert relay(stores, "verify").code == 0
