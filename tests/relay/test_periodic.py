"""When what is periodic is due: by a clock that nobody sets, and once for all that was missed."""

from datetime import UTC, datetime, timedelta

import pytest

from relay.periodic import FIRST_RUN_WITHIN, Every

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
