"""Somebody sets the wall clock under a running relay: it renews, stays small, goes on and ends as ever."""

from pathlib import Path

import pytest

from outbox.clock import now_ms
from tests.conftest import Stores, rows
from tests.postgresql.waiting import until
from tests.system.processes import RelayProcess, running_relay
from tests.system.setting_clocks import Clock

HOUR, YEAR = 3600, 365 * 86_400
STEPS = {
    "seconds back": -4,
    "an hour back": -HOUR,
    "to 1970": -(now_ms() // 1000) + 5,
    "a year ahead": YEAR,
    "to 2100": 75 * YEAR,
}
# Measured again where the machine was busy: a relay that waits for too long does so each time.
TRIES = 10
GROWS_AT_MOST_KIB = 20 * 1024


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_relay_renews_and_goes_on_though_the_clock_is_set(stores: Stores, clock: Clock, step: int) -> None:
    often = {"RELAY_LEASE": "3", "RELAY_DRIFT_CHECK_INTERVAL": "1"}
    with running_relay(stores, RELAY_POLL_INTERVAL="3600", **often, **clock.env) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        worker.wait_for("drift_checked")
        size = peak_kib(worker)

        clock.set_ahead(step)

        # One that goes by the clock that was set waits for an hour and more.
        for _ in range(2):
            until_renewed(stores)
        worker.wait_for("drift_checked")
        worker.wait_until_delivered(stores.create().invite.id)
        assert peak_kib(worker) - size < GROWS_AT_MOST_KIB
        assert worker.terminate() == 0
    assert worker.events("took_over_lapsed_shards") == []


def test_a_relay_with_the_shortest_lease_keeps_it_though_the_clock_is_set_again_and_again(
    stores: Stores, clock: Clock
) -> None:
    with running_relay(stores, RELAY_LEASE="1", RELAY_POLL_INTERVAL="3600", **clock.env) as worker:
        assert any(renews_within_a_second(stores, clock) for _ in range(TRIES))
        assert worker.terminate() == 0
    assert worker.events("took_over_lapsed_shards") == []


def test_a_relay_with_the_longest_lease_renews_in_time_though_the_clock_was_set_back(
    stores: Stores, clock: Clock
) -> None:
    with running_relay(stores, RELAY_LEASE="60", RELAY_POLL_INTERVAL="3600", **clock.env) as worker:
        until_renewed(stores)
        clock.set_ahead(-HOUR)
        until_renewed(stores)
        assert worker.terminate() == 0


def renews_within_a_second(stores: Stores, clock: Clock) -> bool:
    """Whichever way the clock is set meanwhile."""
    longest = 0.0
    for step in (-HOUR, YEAR, -YEAR, 0):
        clock.set_ahead(step)
        longest = max(longest, *(until_renewed(stores) for _ in range(3)))
    return longest < 1


def until_renewed(stores: Stores) -> float:
    """Returns how many seconds it took."""
    query = "SELECT seen_at, (SELECT max(expires_at) FROM outbox_leases) AS ends FROM outbox_relays"
    before = rows(stores.source, query)
    return until("the leases are renewed", lambda: rows(stores.source, query) != before)


def peak_kib(worker: RelayProcess) -> int:
    lines = Path(f"/proc/{worker.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
