"""What the relay does periodically, run by APScheduler in threads of its own: poll, renew, prune, check for drift."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outbox import DatabaseMissingError
from outbox.clock import now_ms
from outbox.leases import Leases
from outbox.prune import prune
from outbox.redact import reason_of
from relay.compare import check_drift
from relay.errors import RelayError
from relay.open import UNIX
from relay.settings import Settings

RENEWALS_A_LEASE = 3
SHOW_ALIVE_EVERY = timedelta(seconds=5)
FIRST_RUN_WITHIN = timedelta(minutes=2)
STEP_SECONDS = 1.0

log = structlog.get_logger()


class Periodic:
    """The scheduler, and what it cannot see: that the clock by which it plans was set back."""

    def __init__(self, scheduler: BackgroundScheduler) -> None:
        self._scheduler = scheduler
        self._ahead = wall_ahead_of_monotonic()

    def start(self) -> None:
        self._scheduler.start()

    def shutdown(self) -> None:
        """Waits for what is running to end."""
        self._scheduler.shutdown()

    def follow_clock(self, ahead: float) -> None:
        """Plans everything anew if the wall clock was set back: it would else rest until that time comes again.

        ``ahead`` is `wall_ahead_of_monotonic` now, in seconds.
        """
        before, self._ahead = self._ahead, ahead
        if self._ahead < before - STEP_SECONDS:
            log.warning("clock_stepped_back", seconds=round(before - self._ahead, 1))
            for job in self._scheduler.get_jobs():
                job.modify(next_run_time=_wall())


def _wall() -> datetime:
    return datetime.fromtimestamp(now_ms() / 1000, UTC)


def wall_ahead_of_monotonic() -> float:
    """Seconds; constant unless somebody sets the clock."""
    return now_ms() / 1000 - time.monotonic()


def schedule(
    settings: Settings, outbox: Engine, leases: Leases, look: Callable[[bool], None], stop: threading.Event
) -> Periodic:
    """What is to run, not started. ``look`` wakes the drain; it is told whether shards should be balanced as well."""
    scheduler = BackgroundScheduler(
        timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    )

    def renew() -> None:
        leases.renew()
        look(True)

    def check() -> None:
        check_drift(settings, outbox, stop)

    def poll() -> None:
        look(False)

    def prune_old() -> None:
        pruned = prune(outbox, settings.retention, lambda: not stop.is_set())
        if pruned:
            log.info("pruned", count=pruned)

    for work, every in (
        (poll, settings.poll_interval),
        (renew, min(settings.lease / RENEWALS_A_LEASE, SHOW_ALIVE_EVERY)),
        (prune_old, settings.prune_interval),
        (check, settings.drift_check_interval),
    ):
        if work is check and settings.gateway.startswith(UNIX):
            # A socket shows no rows; `relay verify` beside the gateway's database does this.
            continue
        # What is rare must also be run by a relay that is started anew more often than that.
        first = _wall() + min(every, FIRST_RUN_WITHIN)
        scheduler.add_job(_reported(work), "interval", seconds=every.total_seconds(), next_run_time=first)
    return Periodic(scheduler)


def _reported(work: Callable[[], None]) -> Callable[[], None]:
    """``work``, its trouble with a database one log line; it is tried again when it is due next."""

    def run() -> None:
        try:
            work()
        except (DBAPIError, DatabaseMissingError, RelayError) as error:
            log.warning("periodic_work_failed", work=work.__name__, reason=reason_of(error))

    return run
