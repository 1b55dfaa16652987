"""Threads that meet: each other, or a lock of PostgreSQL, where they are seen waiting and never guessed to be."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Engine

from outbox import reading

PATIENCE_SECONDS = 60.0
T = TypeVar("T")


def run_together(*work: Callable[[], None]) -> None:
    """Each in a thread of its own; the first exception of any is raised here."""
    raised: list[BaseException] = []

    def run(one: Callable[[], None]) -> None:
        try:
            one()
        except BaseException as error:  # noqa: BLE001 - raised again below
            raised.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for error in raised:
        raise error


def start_behind_a_lock(engine: Engine, work: Callable[[], T]) -> Future[T]:
    """Runs ``work`` in a thread and returns once it waits for a lock that the caller holds in ``engine``'s database."""
    before = _number_waiting(engine)
    executor = ThreadPoolExecutor(1)
    started = executor.submit(work)
    executor.shutdown(wait=False)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _number_waiting(engine) <= before:
        assert not started.done(), f"it waited for no lock and came to {started}"
        assert time.monotonic() < deadline
        os.sched_yield()
    return started


def _number_waiting(engine: Engine) -> int:
    with reading(engine) as connection:
        found = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return int(found.scalar_one())
