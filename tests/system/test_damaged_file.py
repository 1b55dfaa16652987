"""A file damaged in the midst, met while rows are fetched: trouble in words and the documented exit code."""

import signal
from contextlib import closing

import pytest
from sqlalchemy import Engine

from outbox.database.sqlite import sqlite_module, sqlite_path
from tests.conftest import Stores
from tests.relay.rig import create_many
from tests.system.processes import relay, running_relay

pytestmark = pytest.mark.only("sqlite", because="the files of PostgreSQL are its server's")
ROWS = 300
PAGE = 4096
LEAF_OF_A_TABLE = 13


def damage(engine: Engine, invite_id: str) -> None:
    """Overwrites the pages with the rows of one invite and its message; rows before it can still be read."""
    path = sqlite_path(engine)
    assert path is not None
    engine.dispose()
    with closing(sqlite_module().connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    pages = [data[start : start + PAGE] for start in range(0, len(data), PAGE)]
    damaged = [b"\xff" * PAGE if page[0] == LEAF_OF_A_TABLE and invite_id.encode() in page else page for page in pages]
    assert 1 <= sum(page not in pages for page in damaged) <= 2
    path.write_bytes(b"".join(damaged))


def test_verify_of_a_damaged_gateway_is_4_and_not_drift(stores: Stores) -> None:
    invite_ids = create_many(stores, ROWS)
    assert relay(stores, "run", "--until-empty").code == 0
    damage(stores.mirror, invite_ids[ROWS // 2])
    found = relay(stores, "verify")
    assert (found.code, "malformed" in found.err, "Traceback" in found.err) == (4, True, False)


def test_a_relay_that_drains_once_ends_with_4(stores: Stores) -> None:
    invite_ids = create_many(stores, ROWS)
    damage(stores.source, invite_ids[ROWS // 2])
    found = relay(stores, "run", "--until-empty")
    assert (found.code, "malformed" in found.err, "Traceback" in found.err) == (4, True, False)


def test_a_relay_lives_on_and_tries_again(stores: Stores) -> None:
    invite_ids = create_many(stores, ROWS)
    damage(stores.source, invite_ids[ROWS // 2])
    with running_relay(stores) as worker:
        worker.wait_for("outbox_unreachable")
        worker.wait_for("outbox_unreachable")
        assert worker.process.poll() is None
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(30) == 0
