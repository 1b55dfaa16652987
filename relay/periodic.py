"""What the relay does periodically, run by APScheduler in threads of its own: poll, renew, prune, check for drift."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.base import BaseTrigger
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outbox import DatabaseMissingError
from outbox.clock import boot_seconds
from outbox.leases import Leases
from outbox.prune import prune
from outbox.redact import reason_of
from relay.compare import check_drift
from relay.destinations.schemes import kind_of
from relay.errors import RelayError
from relay.settings import Settings
from relay.systemd import Systemd

RENEWALS_A_LEASE = 3
# Seen every 5 s, as the README says, also by a scheduler that is a second late.
SHOW_ALIVE_EVERY = timedelta(seconds=4)
FIRST_RUN_WITHIN = timedelta(minutes=2)
LOOK_EVERY_SECONDS = 1.0
# Due by whatever the wall clock says.
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

log = structlog.get_logger()


class Every(BaseTrigger):  # type: ignore[misc]
    """Due every so often by a clock that nobody sets. Of runs that were missed one is made up for: APScheduler lists
    each of them, and a clock set a year ahead has missed six million renewals."""

    def __init__(self, interval: timedelta) -> None:
        self._interval = interval
        self._due = 0.0

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        # What is rare must also be run by a relay that is started anew more often than that.
        wait = self._interval if previous is not None else min(self._interval, FIRST_RUN_WITHIN)
        self._due = boot_seconds() + wait.total_seconds()
        return now + wait

    def is_overdue(self) -> bool:
        return boot_seconds() >= self._due


class Scheduler(BackgroundScheduler):  # type: ignore[misc]
    """APScheduler plans and waits by the wall clock. Set back, it would rest until that time comes again: so it looks
    every second at what is due by the other clock. Set ahead, all runs once."""

    def _process_jobs(self) -> float:
        for job in self.get_jobs():
            if job.trigger.is_overdue():
                job.modify(next_run_time=_LONG_AGO)
        wait = super()._process_jobs()
        return LOOK_EVERY_SECONDS if wait is None else min(float(wait), LOOK_EVERY_SECONDS)


class Periodic:
    """What runs by itself from `start` to `shutdown`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def start(self) -> None:
        self._scheduler.start()

    def wake(self) -> None:
        """Has it look for what is due. With some C libraries a thread waits by the wall clock, which may be set back:
        call it now and then."""
        self._scheduler.wakeup()

    def shutdown(self) -> None:
        """Waits for what is running to end."""
        self._scheduler.shutdown()


def schedule(
    settings: Settings,
    outbox: Engine,
    leases: Leases,
    look: Callable[[bool], None],
    stop: threading.Event,
    works: Callable[[], bool] = lambda: True,
    systemd: Systemd | None = None,
) -> Periodic:
    """What is to run, not started. ``look`` wakes the drain; it is told whether shards should be balanced as well.

    While ``works`` says that the drain is hung, its leases are not renewed, so that another relay takes them over, and
    ``systemd`` is not told that it works, so that it is killed.
    """
    scheduler = Scheduler(timezone=UTC, job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None})
    hung = _Hung()

    def renew() -> None:
        try:
            if hung.noted(not works()):
                return
            leases.renew()
        finally:
            look(True)

    def check() -> None:
        check_drift(settings, outbox, stop)

    def poll() -> None:
        look(False)

    def prune_old() -> None:
        pruned = prune(outbox, leases.destination, settings.retention, lambda: not stop.is_set())
        if pruned:
            log.info("pruned", count=pruned)

    def tell() -> None:
        if systemd is not None and works():
            systemd.works()

    for work, every in (
        (poll, settings.poll_interval),
        (renew, renewed_every(settings)),
        (prune_old, settings.prune_interval),
        (check, settings.drift_check_interval),
        (tell, None if systemd is None else systemd.every),
    ):
        if every is None:
            continue
        if work is check and not kind_of(settings.gateway).shows_rows:
            # `relay verify` beside the gateway's database does this.
            continue
        scheduler.add_job(_reported(work), Every(every))
    return Periodic(scheduler)


def renewed_every(settings: Settings) -> timedelta:
    return min(settings.lease / RENEWALS_A_LEASE, SHOW_ALIVE_EVERY)


class _Hung:
    """Says once that the drain makes no progress, and once that it goes on."""

    def __init__(self) -> None:
        self._is_hung = False

    def noted(self, is_hung: bool) -> bool:
        if is_hung and not self._is_hung:
            log.error(
                "drain_makes_no_progress",
                effect="its leases are not renewed, so another relay can take its shards",
                advice="restart this relay unless it soon says that it goes on",
            )
        elif self._is_hung and not is_hung:
            log.warning("drain_goes_on")
        self._is_hung = is_hung
        return is_hung


def _reported(work: Callable[[], None]) -> Callable[[], None]:
    """``work``, its trouble with a database one log line; it is tried again when it is due next."""

    def run() -> None:
        try:
            work()
        except (DBAPIError, DatabaseMissingError, RelayError) as error:
            log.warning("periodic_work_failed", work=work.__name__, reason=reason_of(error))

    return run
