"""When what is periodic is due: by a clock that nobody sets, and once for all that was missed."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from outbox import Destination
from outbox.leases import Leases
from outbox.wakeups.wake import WakeListener, listen
from relay.open import open_gateway
from relay.periodic import FIRST_RUN_WITHIN, Every, Periodic, Scheduler, schedule
from relay.worker import Worker
from tests.conftest import Stores
from tests.relay.rig import settings_of
from tests.system.processes import DEADLINE_SECONDS

NOW = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("missed_for", [timedelta(0), timedelta(hours=1), timedelta(days=365)])
def test_of_the_runs_missed_only_one_is_made_up_for(missed_for: timedelta) -> None:
    next_run = Every(timedelta(seconds=5)).get_next_fire_time(NOW - missed_for, NOW)
    assert next_run == NOW + timedelta(seconds=5)


def test_a_first_run_comes_soon_however_rare_the_work_is() -> None:
    assert Every(timedelta(days=1)).get_next_fire_time(None, NOW) == NOW + FIRST_RUN_WITHIN
    assert Every(timedelta(seconds=1)).get_next_fire_time(None, NOW) == NOW + timedelta(seconds=1)


def test_what_is_overdue_is_so_by_the_time_that_passed_whatever_the_clock_says() -> None:
    at_once, later = Every(timedelta(0)), Every(timedelta(hours=1))
    for trigger in (at_once, later):
        trigger.get_next_fire_time(NOW + timedelta(days=365), NOW)
    assert (at_once.is_overdue(), later.is_overdue()) == (True, False)


ONE_IS_ENOUGH = pytest.mark.only("sqlite", because="only the waiting is tested")


@ONE_IS_ENOUGH
def test_the_drain_is_woken_as_often_as_it_is_to_poll(stores: Stores) -> None:
    settings = settings_of(stores, poll_interval=timedelta(seconds=0.05), lease=timedelta(seconds=60))
    polled = threading.Event()

    def look(balance: bool) -> None:
        if not balance:
            polled.set()

    leases = Leases(stores.source, settings.lease, Destination.GATEWAY)
    periodic = schedule(settings, stores.source, leases, look, threading.Event())
    periodic.start()
    try:
        assert polled.wait(DEADLINE_SECONDS)
    finally:
        periodic.shutdown()


@ONE_IS_ENOUGH
@pytest.mark.parametrize("poll", [timedelta(seconds=2), timedelta(seconds=0.3)])
def test_the_drains_loop_rests_no_longer_than_until_it_is_to_poll_though_nobody_wakes_it(
    stores: Stores, poll: timedelta
) -> None:
    rests: list[float] = []

    class Resting(Worker):
        """Notes how long it would rest, and rests no longer than a moment."""

        def _rest(self, listener: WakeListener, periodic: Periodic, seconds: float) -> None:
            rests.append(seconds)
            self.interrupted = len(rests) == 3
            super()._rest(listener, periodic, 0.0)

    settings = settings_of(stores, poll_interval=poll)
    gateway = open_gateway(settings)
    Resting(stores.source, gateway, settings).run()
    gateway.close()

    assert rests == [poll.total_seconds()] * 3


class Oversleeping(Scheduler):
    """Its thread waits for an hour unless it is woken, as by a clock that was set back meanwhile."""

    def __init__(self) -> None:
        super().__init__(timezone=UTC)
        self.looked = threading.Semaphore(0)

    def _process_jobs(self) -> float:
        super()._process_jobs()
        self.looked.release()
        return 3600.0


@contextmanager
def oversleeping() -> Iterator[tuple[Oversleeping, Periodic]]:
    scheduler = Oversleeping()
    periodic = Periodic(scheduler)
    periodic.start()
    try:
        yield scheduler, periodic
    finally:
        periodic.shutdown()


@ONE_IS_ENOUGH
def test_each_rest_of_the_drain_wakes_what_runs_periodically(stores: Stores) -> None:
    settings = settings_of(stores)
    worker = Worker(stores.source, open_gateway(settings), settings)
    with oversleeping() as (scheduler, periodic), listen(stores.source, "ear") as listener:
        assert scheduler.looked.acquire(timeout=DEADLINE_SECONDS)
        for _ in range(3):
            worker._rest(listener, periodic, 0.0)
            assert scheduler.looked.acquire(timeout=DEADLINE_SECONDS)
    worker.gateway.close()
