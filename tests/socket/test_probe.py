"""A probe is answered well only while the store takes invites: then, and only then, is the gateway up."""

import json
import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from outbox import open_engine, writing
from relay.serve_gateway import methods_of
from tests.conftest import Stores, write
from tests.databases import alter
from tests.socket.clients import line, params

BUSY_SECONDS, MANY = 0.5, 40
UP = {"id": "probe", "result": {"schemaVersion": 1}}
IDENTITIES = ("identity", "drainedFrom", "batches")
"""Facts of one store; `tests/system/test_which_gateway.py` is about them."""


@pytest.fixture
def store(stores: Stores) -> Iterator[Engine]:
    engine = open_engine(stores.mirror_url, create=False, busy_timeout=BUSY_SECONDS, relay=True)
    yield engine
    engine.dispose()


def asked(store: Engine, *lines: bytes) -> list[dict[str, object]]:
    found: list[dict[str, object]] = [json.loads(reply) for reply in methods_of(store).replies(lines)]
    assert len(found) == len(lines)
    for one in found:
        if isinstance(one.get("result"), dict) and "schemaVersion" in one["result"]:  # type: ignore[operator]
            one["result"] = {name: value for name, value in one["result"].items() if name not in IDENTITIES}  # type: ignore[attr-defined]
    return found


def probe(id_: str = "probe") -> bytes:
    return json.dumps({"id": id_, "method": "relay_probe", "params": None}).encode()


def test_a_probe_between_invites_is_answered_in_its_turn(store: Engine, stores: Stores) -> None:
    found = asked(store, probe("a"), line("b", given=params(id="one")), probe("c"), line("d", given=params(id="two")))

    assert [one["id"] for one in found] == ["a", "b", "c", "d"]
    assert [one["result"] for one in found] == [UP["result"], {"id": "one"}, UP["result"], {"id": "two"}]
    assert stores.mirrored("two") is not None


@pytest.mark.only("sqlite", because="on PostgreSQL nobody can keep all others from writing")
def test_a_probe_of_a_locked_store_is_an_error_after_the_wait_of_one_batch(store: Engine, stores: Stores) -> None:
    with writing(stores.mirror):
        started = time.monotonic()
        found = asked(store, *[probe(), line("1")] * MANY)
        took = time.monotonic() - started
    assert ["SQLiteError: database is locked" in str(one["error"]) for one in found] == [True] * 2 * MANY
    # Were each to wait, this would take twice as long.
    assert BUSY_SECONDS <= took < MANY * BUSY_SECONDS
    assert asked(store, probe()) == [UP]


@pytest.mark.only("sqlite", because="PostgreSQL has no switch of this kind")
def test_a_probe_of_a_file_that_takes_no_writes_is_an_error(store: Engine) -> None:
    with store.connect() as connection:
        connection.exec_driver_sql("PRAGMA query_only=ON")
    (found,) = asked(store, probe())
    assert found == {"id": "probe", "error": "SQLiteError: attempt to write a readonly database"}


@pytest.mark.only("postgresql", because="a server, not a file, is set to read-only")
def test_a_probe_of_a_server_that_takes_no_writes_is_an_error(store: Engine, stores: Stores) -> None:
    alter(stores.mirror_url, "SET default_transaction_read_only = on")
    (found,) = asked(store, probe())
    assert found == {"id": "probe", "error": "DatabaseError: the gateway's database is read-only"}


def test_a_probe_of_a_store_without_its_table_is_an_error(store: Engine) -> None:
    write(store, "ALTER TABLE ingress_invites RENAME TO away")
    (found,) = asked(store, probe())
    assert "ingress_invites" in str(found["error"])


def test_a_probe_changes_nothing_and_leaves_no_transaction_open(store: Engine, stores: Stores) -> None:
    impatient = open_engine(stores.mirror_url, create=False, busy_timeout=0.001)
    assert asked(store, *[probe()] * 20) == [UP] * 20
    write(impatient, "UPDATE contacts SET updated_at = updated_at")
    impatient.dispose()
