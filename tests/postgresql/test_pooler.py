"""Through a pooler in transaction mode, which gives each transaction another session: nothing may be kept in one."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine

from outbox import open_engine
from outbox.statements import CHANNEL
from tests.conftest import CONTACT, Stores, rows
from tests.databases import EMPTY, database_url
from tests.postgresql.pooler import SESSIONS, Pooler, pooler
from tests.postgresql.protocol import socket_of, through
from tests.system.processes import relay, running_relay

KEPT = """
    SELECT pg_backend_pid(), array(
        SELECT 'prepared ' || name FROM pg_prepared_statements
        UNION ALL SELECT 'setting ' || name FROM pg_settings WHERE source = 'session'
        UNION ALL SELECT 'cursor ' || name FROM pg_cursors WHERE is_holdable
        UNION ALL SELECT 'lock' FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'
        UNION ALL SELECT 'channel ' || channel FROM pg_listening_channels() AS channel)
"""


@pytest.fixture
def pooled(tmp_path: Path) -> Iterator[tuple[Pooler, Stores]]:
    """Two empty databases, reached by way of the pooler only."""
    with (
        database_url("postgresql", tmp_path, "source", EMPTY) as source_url,
        database_url("postgresql", tmp_path, "mirror", EMPTY) as mirror_url,
        pooler(socket_of(source_url)) as (between, port),
    ):
        source_url, mirror_url = through(source_url, port), through(mirror_url, port)
        source, mirror = open_engine(source_url), open_engine(mirror_url)
        yield between, Stores(tmp_path, source_url, mirror_url, source, mirror)
        source.dispose()
        mirror.dispose()


def connection_to(engine: Engine) -> psycopg.Connection:
    url = engine.url.set(drivername="postgresql").render_as_string()
    return psycopg.connect(url, autocommit=True, prepare_threshold=None)


def what_sessions_keep(engine: Engine) -> set[str]:
    """Asked of each of them in turn."""
    found: dict[int, list[str]] = {}
    with closing(connection_to(engine)) as connection:
        for _ in range(SESSIONS):
            pid, kept = connection.execute(KEPT.encode()).fetchone() or (0, [])
            found[pid] = kept
    assert len(found) == SESSIONS
    return {one for kept in found.values() for one in kept}


def test_p04_p06_all_there_is_to_do_is_done_through_a_pooler(pooled: tuple[Pooler, Stores]) -> None:
    between, stores = pooled
    assert relay(stores, "init").code == 0
    stores.add_contact(CONTACT)
    # No wake-up comes: what listens is a session that others have now.
    with running_relay(stores, RELAY_POLL_INTERVAL="0.2") as started:
        invites = [stores.create().invite.id for _ in range(30)]
        for id_ in invites[::2]:
            stores.use(id_)
        started.wait_until_delivered(*invites)
        assert relay(stores, "--json", "status").json["live_relays"] == 1
        replayed = relay(stores, "--json", "replay", "--all")
        assert relay(stores, "verify").code == 0
        assert started.terminate() == 0

    assert (replayed.code, replayed.json["enqueued"], replayed.json["repaired"]) == (0, 30, 30)
    assert set(stores.states()) <= {"delivered", "superseded"}
    assert rows(stores.source, "SELECT * FROM outbox_leases") == []
    assert started.events("outbox_unreachable") + started.events("gateway_unreachable") == []
    assert max(len(set(used)) for used in between.used) == SESSIONS, "no client met every session"
    assert what_sessions_keep(stores.source) == {f"channel {CHANNEL}"}, "only what the relay tried in vain"
    assert what_sessions_keep(stores.mirror) == set()


def test_wake_ups_that_a_session_hears_for_another_client_do_not_pile_up(pooled: tuple[Pooler, Stores]) -> None:
    _, stores = pooled
    assert relay(stores, "init").code == 0
    with closing(connection_to(stores.source)) as listener:
        for _ in range(SESSIONS):
            listener.execute(f"LISTEN {CHANNEL}".encode())
        for _ in range(10):
            stores.create()
    with stores.source.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        # The driver shows them in no other way.
        assert not driver._notifies_backlog
