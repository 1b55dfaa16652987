"""Relays that share out the shards at the same moment, and a relay whose two threads meet."""

import threading
from concurrent.futures import Future
from functools import partial

import pytest
from sqlalchemy import event

from outbox import DELIVERED, SHARDS, writing
from outbox.leases import Leases
from outbox.message import Destination
from outbox.settle import Judged, settle
from tests.outbox.conftest import Outbox
from tests.outbox.test_fence import NOW, POLICY
from tests.outbox.test_leases import LEASE, held, relay, settle_down
from tests.outbox.threads import run_together, start_behind_a_lock


def test_relays_that_balance_at_the_same_moment_take_no_shard_twice(box: Outbox) -> None:
    start = threading.Barrier(4)
    relays = [Leases(box.open(), LEASE, Destination.GATEWAY, owner=f"relay-{number}") for number in range(4)]

    def balance(one: Leases) -> None:
        start.wait(60)
        one.balance()

    for _ in range(5):
        run_together(*(partial(balance, one) for one in relays))
        taken = [shard for one in relays for shard in one.tokens]
        assert sorted(taken) == list(range(SHARDS))
        for one in relays:
            one.release()


@pytest.mark.only("postgresql", because="SQLite's BEGIN IMMEDIATE is the lock")
def test_a_relay_that_has_read_who_holds_what_is_waited_for_until_it_has_taken_its_share(box: Outbox) -> None:
    engine = box.open()
    first, second = Leases(engine, LEASE, Destination.GATEWAY, owner="a"), relay(box, "b")
    others: list[Future[object]] = []

    @event.listens_for(engine, "before_cursor_execute")
    def start_the_other(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "INSERT INTO outbox_leases" in statement and not others:
            others.append(start_behind_a_lock(box.engine, second.balance))

    first.balance()
    others[0].result()

    assert held(first, second) == [64, 0]
    settle_down(first, second)
    assert held(first, second) == [32, 32]


@pytest.mark.only("postgresql", because="SQLite has one lock, so no two can be taken in different orders")
def test_a_renewal_and_a_settling_of_many_shards_at_once_do_not_block_each_other_for_good(box: Outbox) -> None:
    # It took the upper half of the shards first, then the lower one.
    leaving, leases = relay(box, "a"), relay(box, "b")
    settle_down(leaving, leases)
    leaving.release()
    leases.balance()
    judged = [Judged(box.message(box.put(f"key-{number}")), DELIVERED) for number in range(500)]
    assert {one.message.shard for one in judged} == set(range(SHARDS))

    def settle_all() -> None:
        with writing(box.engine) as connection:
            settle(connection, leases.destination, leases.tokens, judged, POLICY, NOW)

    with writing(box.engine) as connection:
        connection.exec_driver_sql("SELECT 1 FROM outbox_leases WHERE shard = 40 FOR UPDATE")
        renewing = start_behind_a_lock(box.engine, leases.renew)
        settling = start_behind_a_lock(box.engine, settle_all)
    renewing.result()
    settling.result()

    assert {row["state"] for row in box.rows()} == {"delivered"}
