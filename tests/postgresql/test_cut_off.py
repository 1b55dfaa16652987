"""A relay's connection that ended a moment after it was used: what can be repeated is, and nobody hears of it."""

import json
from datetime import timedelta

from gateway_store.answering import answers
from gateway_store.wire import METHOD, Request, read_request
from outbox import open_engine
from outbox.leases import Leases
from outbox.message import Destination
from tests.conftest import Stores, rows
from tests.databases import end_connections
from tests.gateway_store.examples import payload


def request(invite_id: str) -> Request:
    line = json.dumps({"id": invite_id, "method": METHOD, "params": payload(id=invite_id)})
    found = read_request(line.encode())
    assert isinstance(found, Request)
    return found


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
    first = answers(engine, [request("a")])
    end_connections(stores.mirror_url)
    second = answers(engine, [request("b")])
    engine.dispose()
    assert [json.loads(line)["result"]["id"] for line in (*first, *second)] == ["a", "b"]
