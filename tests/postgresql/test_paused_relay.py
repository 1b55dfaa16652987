"""A relay that stands still (SIGSTOP) with messages in hand: the others go on, and it settles nothing when it wakes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, text

from outbox import writing
from outbox.database.postgresql import FROZEN_SECONDS
from tests.conftest import CONTACT, Stores
from tests.postgresql.shares import create_in, owner, shards_of, until_shared_evenly
from tests.postgresql.waiting import (
    go_on,
    in_list,
    is_in_mid_transaction,
    stop,
    until,
    until_one_waits_for_a_lock,
    until_settled,
    waits_for_a_lock,
)
from tests.system.processes import RelayProcess, relay, running_relay

SHORT = {"RELAY_LEASE": "3", "RELAY_PROBE_LONGEST": "0.2", "RELAY_GATEWAY_TIMEOUT": "2"}


@contextmanager
def locking(engine: Engine, query: str) -> Iterator[Connection]:
    """The rows of ``query`` are locked until left."""
    with writing(engine) as connection:
        connection.execute(text(f"{query} FOR UPDATE"))
        yield connection


def stop_while_it_waits(started: RelayProcess, engine: Engine) -> None:
    """It stands still in the middle of a statement of ``engine``'s database, which waits for a lock of the test's."""
    while True:
        until_one_waits_for_a_lock(engine)
        stop(started)
        if waits_for_a_lock(engine):
            return
        go_on(started)


def assert_each_settled_once(stores: Stores, *relays: RelayProcess) -> None:
    assert relay(stores, "verify").code == 0
    assert {(row["state"], row["attempts"]) for row in stores.messages()} == {("delivered", 0)}
    told = [id_ for one in relays for line in one.events("delivered") for id_ in line["invites"]]
    assert sorted(told) == sorted(row["key"] for row in stores.messages())


def test_p09_a_relay_paused_in_mid_delivery_until_its_lease_was_taken_settles_nothing(stores: Stores) -> None:
    with running_relay(stores, **SHORT) as paused:
        until_shared_evenly(stores, [paused])
        stop(paused)
        invites = [stores.create().invite.id for _ in range(5)]
        in_hand = {row["shard"] for row in stores.messages()}
        with locking(stores.mirror, f"SELECT 1 FROM contacts WHERE id = '{CONTACT}'"):
            go_on(paused)
            stop_while_it_waits(paused, stores.mirror)
        with running_relay(stores, **SHORT) as other:
            until_settled(stores, *invites)
            go_on(paused)
            lost: set[int] = set()
            while not lost >= in_hand:
                lost |= set(paused.wait_for("lease_lost")["shards"])
            until_shared_evenly(stores, [paused, other])
            until_settled(stores, *(stores.create().invite.id for _ in range(20)))
            assert (paused.terminate(), other.terminate()) == (0, 0)

    assert lost == in_hand
    assert_each_settled_once(stores, paused, other)


def test_p09_p10_a_relay_paused_in_mid_settling_holds_up_the_others_no_longer_than_the_server_lets_it(
    stores: Stores,
) -> None:
    with running_relay(stores, **SHORT) as paused, running_relay(stores, **SHORT) as other:
        until_shared_evenly(stores, [paused, other])
        its_shards, others_shards = (shards_of(stores)[owner(one)] for one in (paused, other))
        stop(paused)
        in_hand = create_in(stores, its_shards, 3)
        with locking(stores.source, f"SELECT 1 FROM outbox_messages WHERE key IN {in_list(in_hand)}"):
            go_on(paused)
            stop_while_it_waits(paused, stores.source)
            since = time.monotonic()
        # Its statement is through, and so it holds the locks of its leases and of these messages.
        until("it is in mid-transaction", lambda: is_in_mid_transaction(stores.source))
        until_settled(stores, *create_in(stores, others_shards, 3))
        assert is_in_mid_transaction(stores.source), "the others were served while it held its locks"
        until_settled(stores, *in_hand, *create_in(stores, its_shards, 3))
        taken_over = time.monotonic() - since
        go_on(paused)
        until_shared_evenly(stores, [paused, other])
        assert (paused.terminate(), other.terminate()) == (0, 0)

    assert taken_over > FROZEN_SECONDS - 1
    assert_each_settled_once(stores, paused, other)
