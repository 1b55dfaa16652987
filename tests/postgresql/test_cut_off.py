"""A relay's connection that ended a moment after it was used: what can be repeated is, and nobody hears of it."""

import json
from datetime import timedelta

from gateway_store.socket.methods import METHOD
from outbox import open_engine
from outbox.leases import Leases
from outbox.message import Destination
from relay.serve_gateway import methods_of
from tests.conftest import Stores, rows
from tests.databases import end_connections
from tests.gateway_store.examples import payload


def line(invite_id: str) -> bytes:
    return json.dumps({"id": invite_id, "method": METHOD, "params": payload(id=invite_id)}).encode()


def test_leases_are_released_through_a_new_connection(stores: Stores) -> None:
    engine = open_engine(stores.source_url, relay=True, create=False)
    leases = Leases(engine, timedelta(seconds=15), Destination.GATEWAY)
    leases.balance()
    assert len(rows(stores.source, "SELECT shard FROM outbox_leases")) == 64
    end_connections(stores.source_url)
    leases.release()
    engine.dispose()
    stores.source.dispose()
    assert rows(stores.source, "SELECT shard FROM outbox_leases") == []


def test_requests_are_answered_through_a_new_connection(stores: Stores) -> None:
    engine = open_engine(stores.mirror_url, relay=True, create=False)
    methods = methods_of(engine)
    first = methods.replies([line("a")])
    end_connections(stores.mirror_url)
    second = methods.replies([line("b")])
    engine.dispose()
    assert [json.loads(reply)["result"]["id"] for reply in (*first, *second)] == ["a", "b"]
