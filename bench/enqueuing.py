"""What the message adds to `create_invite`: the function beside its twin that enqueues nothing and has no savepoint.

In turns in one process, each call in a transaction of its own, committed at synchronous = FULL, nobody listening.
"""

import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from types import FunctionType
from typing import cast

from sqlalchemy.orm import Session

from assistant_store.invites import create
from bench.figure import Figure, told
from bench.stage import CONTACT, Stage, stage
from outbox import reading

CALLS = 2_000
# CPU time is compared by as many calls together: one alone may meet a checkpoint.
AT_ONCE = 50
WARMING_UP = 100

Creator = Callable[..., object]


def measure(calls: int = CALLS) -> list[Figure]:
    """The ratio of the median wall times, and the median difference in CPU time; the commit is in both."""
    with stage() as at:
        ours, twins = _in_turns(at, WARMING_UP + calls)
    wall, twins_wall = (statistics.median(wall for wall, _ in calls[WARMING_UP:]) for calls in (ours, twins))
    cpu, twins_cpu = (_cpu_by_batch(calls[WARMING_UP:]) for calls in (ours, twins))
    more = statistics.median(one - other for one, other in zip(cpu, twins_cpu, strict=True))
    name = "create_invite / the same without the outbox"
    return [
        Figure(f"{name}, wall", wall / twins_wall, at_most=1.25, beside=f"{_us(wall)} to {_us(twins_wall)}"),
        Figure(
            "create_invite, CPU beyond the same without the outbox",
            more * 1e6,
            "µs",
            at_most=80,
            beside=f"{_us(statistics.median(cpu))} to {_us(statistics.median(twins_cpu))}, commit included",
        ),
    ]


def _without_the_outbox() -> Creator:
    """`create_invite` line by line, but for the names that its module takes from the outbox."""
    ours = cast("FunctionType", create.create_invite)
    nothing = {
        "enqueue_invites": lambda *_: None,
        "with_its_message": lambda session: nullcontext(session.connection()),
    }
    twin = FunctionType(ours.__code__, ours.__globals__ | nothing, "without_the_outbox", ours.__defaults__)
    twin.__kwdefaults__ = ours.__kwdefaults__
    return twin


def _in_turns(at: Stage, calls: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Wall and CPU seconds of each call, of `create_invite` and of its twin."""
    twin = _without_the_outbox()
    ours: list[tuple[float, float]] = []
    twins: list[tuple[float, float]] = []
    for number in range(calls):
        turns: list[tuple[list[tuple[float, float]], Creator]] = [(ours, create.create_invite), (twins, twin)]
        for found, creator in turns if number % 2 == 0 else reversed(turns):
            found.append(_seconds(at, creator))
    with reading(at.source) as connection:
        messages = connection.exec_driver_sql("SELECT count(*) FROM outbox_messages").scalar_one()
    if messages != calls:
        raise RuntimeError(f"{messages} messages of {calls} calls: the twin is not without the outbox")
    return ours, twins


def _seconds(at: Stage, creator: Creator) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    with Session(at.source) as session, session.begin():
        creator(session, source_channel="telegram", contact_id=CONTACT)
    return time.perf_counter() - wall, time.process_time() - cpu


def _cpu_by_batch(calls: list[tuple[float, float]]) -> list[float]:
    return [
        statistics.mean(cpu for _, cpu in calls[start : start + AT_ONCE]) for start in range(0, len(calls), AT_ONCE)
    ]


def _us(seconds: float) -> str:
    return f"{told(seconds * 1e6)} µs"
