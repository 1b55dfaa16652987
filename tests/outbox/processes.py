"""Work in real processes that start at the same moment."""

import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")


def run_together(number: int, work: Callable[..., None], *args: Any) -> None:
    """``number`` processes run ``work(*args)``, a module-level function, all at once; one that fails fails the test."""
    start = PROCESSES.Barrier(number)
    processes = [PROCESSES.Process(target=_run, args=(start, work, args)) for _ in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * number


def _run(start: Barrier, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    start.wait(60)
    work(*args)
