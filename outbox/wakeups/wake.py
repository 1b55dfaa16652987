"""What a relay waits on: wake-ups from other processes, from its own threads and signal handlers, and the time."""

import contextlib
import math
import os
import select
import time
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from sqlalchemy import Engine

from outbox.database.sqlite import sqlite_path
from outbox.wakeups.datagram import DatagramSource


class WakeSource(Protocol):
    """Where wake-ups come from; ``problem`` says why none can be received now, or is None.

    ``missed`` is set while some may have come that `fileno` will not show; `drain` resets it.
    """

    problem: str | None
    missed: bool

    def fileno(self) -> int:
        """What to wait on; -1 while there is nothing."""

    def drain(self) -> bool:
        """Takes all that have arrived; whether there were any."""

    def close(self) -> None: ...


class NoSource:
    """Nothing to wait on: only polling finds messages."""

    def __init__(self, problem: str) -> None:
        self.problem: str | None = problem
        self.missed = False

    def fileno(self) -> int:
        return -1

    def drain(self) -> bool:
        return False

    def close(self) -> None: ...


class WakeListener:
    """Waits for a wake-up, or for `set`."""

    def __init__(self, source: WakeSource) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._source = source
        self._woken_at = -math.inf

    @property
    def problem(self) -> str | None:
        """Why wake-ups cannot be received, so that only polling finds messages; None if they can."""
        return self._source.problem

    def set(self) -> None:
        """Ends a `wait`, now or the next. Safe in a signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def wait(self, timeout: float | None) -> None:
        """Returns at a wake-up, at `set`, or after ``timeout`` seconds. All that had arrived count as one."""
        coming = self._source.fileno()
        longest = 0 if self._source.missed else timeout
        ready, _, _ = select.select([self._read] if coming < 0 else [self._read, coming], [], [], longest)
        if self._read in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._read, 4096):
                    pass
        if coming in ready or self._source.missed:
            self._take()

    def woken_within(self, seconds: float) -> bool:
        """Whether a wake-up came in the last ``seconds``. Takes them: look for messages afterwards."""
        self._take()
        return time.monotonic() - self._woken_at < seconds

    def _take(self) -> None:
        if self._source.drain():
            self._woken_at = time.monotonic()

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()


def listen(engine: Engine, name: str) -> WakeListener:
    """A listener for the messages enqueued in ``engine``'s database, by the name of one relay."""
    if engine.dialect.name == "sqlite":
        return listen_beside(sqlite_path(engine), name)
    # Imported here: the driver is an extra.
    from outbox.wakeups.notify import NotifySource

    return WakeListener(NotifySource(engine))


def listen_beside(database: Path | None, name: str) -> WakeListener:
    if database is None:
        return WakeListener(NoSource("the database is in memory"))
    try:
        return WakeListener(DatagramSource(database, name))
    except OSError as error:
        return WakeListener(NoSource(str(error)))
