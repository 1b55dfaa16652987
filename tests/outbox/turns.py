"""Another writer that waits for SQLite's lock beside a task of many small transactions: it must get its turn."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from outbox import open_engine, writing

# SQLite's own longest pause between two looks: who has waited for a third of a second looks no more often.
LOOK_EVERY_SECONDS = 0.1


def transactions_before_anothers_turn(engine: Engine, work: Callable[[], object]) -> tuple[int, int]:
    """How many transactions ``work`` had committed when another writer, which began to wait inside the first one, came
    through; and how many it committed in all."""
    committed: list[object] = []
    waits, done = threading.Event(), threading.Event()
    other = open_engine(engine.url, busy_timeout=0.0)

    def take_a_turn() -> int:
        while True:
            try:
                with writing(other):
                    return len(committed)
            except OperationalError:
                waits.set()
            assert not done.wait(LOOK_EVERY_SECONDS), "it got no turn until all was done"

    def begin_to_wait(_: object) -> None:
        if not committed:
            turns.append(executor.submit(take_a_turn))
            assert waits.wait(30)
        committed.append(1)

    turns: list[Future[int]] = []
    with ThreadPoolExecutor(1) as executor:
        event.listen(engine, "commit", begin_to_wait)
        try:
            work()
        finally:
            done.set()
            event.remove(engine, "commit", begin_to_wait)
    other.dispose()
    return turns[0].result(), len(committed)
