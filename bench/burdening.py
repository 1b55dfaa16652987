"""What `create_invite` costs while a relay drains a heap behind it, beside the same with a relay that idles."""

from functools import partial

from bench.decoupling import EVERY_SECONDS
from bench.figure import Figure, both, p50_p99
from bench.heap import heap
from bench.place import place
from bench.stage import CONTACT, Stage, daemon, opened, relay, set_up
from outbox import reading
from relay.demo import Daemon

MESSAGES = 1_000_000
INVITES = 250
SECONDS_TO_WARM_UP = 1.0


def measure(count: int = MESSAGES, invites: int = INVITES) -> list[Figure]:
    """p99 over all turns. One turn each, idle and draining, until the heap is gone; stores of their own, one disk."""
    idle: list[float] = []
    draining: list[float] = []
    with place("sqlite") as where, heap(where, count) as heaped:
        empty = where.empty()
        set_up(empty)
        with opened(empty) as quiet, daemon(quiet) as at_ease, heaped() as busy, daemon(busy) as burdened:
            while True:
                calm = _turn(quiet, at_ease, invites)
                found = _turn(busy, burdened, invites)
                if not _waits(busy, invites):
                    # Its heap may have ended in the midst of this turn.
                    break
                idle += calm
                draining += found
    name = f"create_invite at {1 / EVERY_SECONDS:.0f}/s, a relay draining {count:,} / idle"
    if not draining:
        return [Figure(f"{name}, p99", None, at_most=1.5, beside="the heap was gone before one turn was over")]
    p50, p99 = (one / other for one, other in zip(p50_p99(draining), p50_p99(idle), strict=True))
    beside = f"{both(draining)} to {both(idle)}, p50 / p99"
    return [Figure(f"{name}, p99", p99, at_most=1.5, beside=beside), Figure(f"{name}, p50", p50)]


def _turn(at: Stage, assistant: Daemon, invites: int) -> list[float]:
    ask = partial(assistant.ask, contact_id=CONTACT, every_seconds=EVERY_SECONDS)
    with relay(at):
        # The first are not counted: a relay that has just started opens its files.
        ask(create=int(SECONDS_TO_WARM_UP / EVERY_SECONDS))
        seconds: list[float] = ask(create=invites)["seconds"]
    return seconds


def _waits(at: Stage, invites: int) -> bool:
    """Whether more messages wait than the last turn can have made itself."""
    with reading(at.source) as connection:
        waiting = connection.exec_driver_sql(
            f"SELECT count(*) FROM (SELECT 1 FROM outbox_messages WHERE state = 'pending' LIMIT {2 * invites})"
        ).scalar_one()
    return bool(waiting == 2 * invites)
