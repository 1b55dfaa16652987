"""Work in a process of its own that is killed with SIGKILL at a chosen step; a step is a statement or a commit."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from itertools import count
from typing import Any

from sqlalchemy import Engine, event

_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["relay.worker", "relay.open", "assistant_store", "gateway_store"])
MAX_STEPS = 400


def run_killed_at(step: int, work: Callable[..., None], *args: Any) -> bool:
    """Runs ``work(*args)`` in a new process, killed just before its ``step``-th statement or commit on any engine.

    True if it was killed, False if it ended before that; an exception in it fails the test. ``work`` must be a
    module-level function that opens its own engines.
    """
    process = _PROCESSES.Process(target=_run, args=(step, work, args))
    process.start()
    process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), f"the process ended with {process.exitcode} at step {step}"
    return process.exitcode == -signal.SIGKILL


def run_killed_at_each_step(work: Callable[..., None], arrange: Callable[[], tuple[Any, ...]]) -> int:
    """Kills ``work`` at its first step, then at its second, and so on until it gets through; returns how many kills.

    ``arrange`` makes a fresh starting point for each run and returns ``work``'s arguments; checks after each kill are
    its caller's, best made at the start of the next ``arrange``.
    """
    for step in count(1):
        assert step <= MAX_STEPS
        if not run_killed_at(step, work, *arrange()):
            return step - 1
    raise AssertionError


def _run(step: int, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    steps = count(1)

    def die_if_reached(*_: Any) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "before_cursor_execute", die_if_reached)
    event.listen(Engine, "commit", die_if_reached)
    work(*args)
