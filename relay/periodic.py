"""What the relay does periodically, run by APScheduler in threads of its own: poll, renew, prune, check for drift."""

import threading
from collections.abc import Callable
from datetime import UTC, timedelta

import structlog
from apscheduler.schedulers.background import BackgroundScheduler
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outbox import DatabaseMissingError
from outbox.leases import Leases
from outbox.prune import prune
from outbox.redact import redact_reason
from relay.compare import check_drift
from relay.errors import RelayError
from relay.settings import Settings

RENEWALS_A_LEASE = 3
SHOW_ALIVE_EVERY = timedelta(seconds=5)

log = structlog.get_logger()


def schedule(
    settings: Settings, outbox: Engine, leases: Leases, look: Callable[[bool], None], stop: threading.Event
) -> BackgroundScheduler:
    """A scheduler, not started. ``look`` wakes the drain; it is told whether shards should be balanced as well."""
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
        scheduler.add_job(_reported(work), "interval", seconds=every.total_seconds())
    return scheduler


def _reported(work: Callable[[], None]) -> Callable[[], None]:
    """``work``, its trouble with a database one log line; it is tried again when it is due next."""

    def run() -> None:
        try:
            work()
        except (DBAPIError, DatabaseMissingError, RelayError) as error:
            cause = getattr(error, "orig", None) or error
            log.warning("periodic_work_failed", work=work.__name__, reason=redact_reason(str(cause)))

    return run
