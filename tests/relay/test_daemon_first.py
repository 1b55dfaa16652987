"""While the daemon writes to SQLite the relay's batches are small: each of them keeps the daemon's write lock."""

from collections.abc import Sequence

import pytest

from relay.destinations.port import Delivery
from relay.drain import SMALL_BATCH
from relay.worker import Worker
from tests.conftest import Stores
from tests.relay.rig import Meddling, create_many, draining, gateway_of, settings_of

WAITING = 3 * SMALL_BATCH
FULL = 2 * SMALL_BATCH


def sizes_when(stores: Stores, batch_size: int, *, the_daemon_writes: bool) -> list[int]:
    """How many invites each delivery had, of a heap that the daemon adds to in the midst of the first one, or not."""
    create_many(stores, WAITING)

    def write_once(_: Sequence[Delivery]) -> None:
        gateway.before = lambda _: None
        stores.create()

    with gateway_of(stores) as real:
        gateway = Meddling(real)
        if the_daemon_writes:
            gateway.before = write_once
        Worker(stores.source, gateway, settings_of(stores, batch_size=batch_size)).run(until_empty=True)
    return [len(keys) for keys in gateway.delivered]


@pytest.mark.only("sqlite", because="PostgreSQL's writers do not exclude each other")
def test_batches_get_small_as_soon_as_the_daemon_writes(stores: Stores) -> None:
    assert sizes_when(stores, FULL, the_daemon_writes=True) == [FULL, SMALL_BATCH, 1]


@pytest.mark.only("sqlite", because="PostgreSQL's writers do not exclude each other")
def test_a_smaller_batch_size_stays(stores: Stores) -> None:
    assert set(sizes_when(stores, SMALL_BATCH - 1, the_daemon_writes=True)[:-1]) == {SMALL_BATCH - 1}


@pytest.mark.only("postgresql", because="on SQLite they get small")
def test_batches_stay_full_where_writers_do_not_exclude_each_other(stores: Stores) -> None:
    assert sizes_when(stores, FULL, the_daemon_writes=True) == [FULL, SMALL_BATCH + 1]


def test_batches_are_full_while_the_daemon_is_silent(stores: Stores) -> None:
    assert sizes_when(stores, FULL, the_daemon_writes=False) == [FULL, SMALL_BATCH]


def test_what_a_killed_relay_may_have_had_in_hand_is_a_full_batch_all_the_same(stores: Stores) -> None:
    create_many(stores, WAITING)
    with draining(stores, batch_size=FULL) as drain:
        drain.woken_within = lambda _: True
        drain.suspect(range(64))
        assert len(drain.suspects) == FULL
