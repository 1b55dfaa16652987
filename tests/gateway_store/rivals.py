"""Two that write to one PostgreSQL at once: one is stopped in mid-statement, and the other is seen to wait for it."""

import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Engine, make_url

from outbox import open_engine, writing
from tests.conftest import rows
from tests.gateway_store.catalogue import connected
from tests.outbox.threads import PATIENCE_SECONDS, start_behind_a_lock

Result = TypeVar("Result")
_NAME, _GATE = "stopped", 1
# Its name comes before those of the triggers that enforce foreign keys, and so does it.
_TRIGGER = """
    CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF current_setting('application_name') = '{name}' THEN PERFORM pg_advisory_xact_lock({gate}); END IF;
        RETURN new;
    END $$;
    CREATE TRIGGER "A_gate" {when} EXECUTE FUNCTION gate()
"""


class Gate:
    """Closed while ``holder`` has the lock that those stopped wait for."""

    def __init__(self, holder: Any) -> None:
        self._holder = holder
        self.close()

    def close(self) -> None:
        self._holder.execute(f"SELECT pg_advisory_lock({_GATE})")

    def open(self) -> None:
        self._holder.execute(f"SELECT pg_advisory_unlock({_GATE})")


class Rivals:
    """``first`` stops at the gate, ``second`` does not; both wait for a lock longer than any test lasts."""

    def __init__(self, url: str) -> None:
        self.url = url
        named = make_url(url).update_query_dict({"application_name": _NAME})
        self.first = _patient(named.render_as_string(hide_password=False))
        self.second = _patient(url)

    @contextmanager
    def gate(self, when: str) -> Iterator[Gate]:
        """A trigger that fires ``when`` and stops the first until the gate is opened."""
        with writing(self.second) as connection:
            connection.exec_driver_sql(_TRIGGER.format(name=_NAME, gate=_GATE, when=when))
        with connected(self.url) as holder:
            yield Gate(holder)

    def held_up(self, work: Callable[..., Result], *args: Any) -> "Future[Result]":
        """Starts the work in a thread of its own; returns once it is seen to wait for a lock."""
        return start_behind_a_lock(self.second, partial(work, *args))

    def until_waiting_at_the_gate(self) -> None:
        self._until_first_waits("wait_event = 'advisory'")

    def until_waiting_for_a_row(self) -> None:
        self._until_first_waits("wait_event <> 'advisory'")

    def _until_first_waits(self, where: str) -> None:
        waits = f"SELECT pid FROM pg_stat_activity WHERE application_name = '{_NAME}' AND datname = current_database()"
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not rows(self.second, f"{waits} AND wait_event_type = 'Lock' AND {where}"):
            assert time.monotonic() < deadline
            os.sched_yield()

    def close(self) -> None:
        self.first.dispose()
        self.second.dispose()


def _patient(url: str) -> Engine:
    return open_engine(url, busy_timeout=2 * PATIENCE_SECONDS)
