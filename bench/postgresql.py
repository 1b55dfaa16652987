"""Both stores on PostgreSQL: how fast one, two and four relays drain, how late an invite is, what a wake-up costs."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

from sqlalchemy.orm import Session

import assistant_store
from bench.bound import postgresql_batch, raw_postgresql
from bench.contest import ROUNDS, Results, Run, contest
from bench.draining import BOUND, by_hand
from bench.heap import Heap, heap, must_be_drained
from bench.mirroring import INVITES, one
from bench.place import place
from bench.serving import cuts
from bench.stage import CONTACT, Stage, relay, stage
from outbox import open_engine, reading

MESSAGES = 40_000
RELAYS = (1, 2, 4)
COMMITS = 400


def measure() -> dict[str, str]:
    results = race_relays(MESSAGES)
    figures = {
        f"PostgreSQL, drain of {MESSAGES:,} by {count}": (
            f"{results.rate(str(count)):,.0f}/s, ratio to the bound {results.ratio(str(count), BOUND):.2f}"
        )
        for count in RELAYS
    }
    figures["PostgreSQL, the bound"] = f"{results.rate(BOUND):,.0f}/s"
    with stage("postgresql") as at:
        with relay(at):
            figures["PostgreSQL, commit to mirrored at 20/s: p50 / p99"] = cuts([one(at) for _ in range(INVITES)])
        with _bare_listener(at):
            figures["PostgreSQL, the same by a bare LISTEN, read, upsert"] = cuts([one(at) for _ in range(INVITES)])
    return figures | _wake_ups()


def race_relays(count: int, rounds: int = ROUNDS) -> Results:
    """One, two and four relays beside the bound."""
    with (
        place("postgresql") as where,
        heap(where, count) as ours,
        heap(where, count, as_pull_request=True) as bare,
    ):
        contestants = {str(relays): partial(_relayed, ours, count, relays) for relays in RELAYS}
        return contest(contestants | {BOUND: partial(by_hand, bare, count)}, rounds)


def _relayed(heap: Heap, count: int, relays: int) -> Run:
    with heap() as at:
        run = Run(_drained_by(at, count, relays))
        must_be_drained(at, count)
    return run


def _drained_by(at: Stage, count: int, relays: int) -> float:
    """Messages a second between the first and the last tenth, by the instants at which they were settled."""
    with ExitStack() as stack:
        for number in range(relays):
            stack.enter_context(relay(at, number))
        while _waiting(at):
            threading.Event().wait(0.1)
    with reading(at.source) as connection:
        first, last = connection.exec_driver_sql(
            "SELECT percentile_disc(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY settled_at) FROM outbox_messages"
        ).scalar_one()
    return float(0.8 * count / ((last - first) / 1000))


def _waiting(at: Stage) -> bool:
    with reading(at.source) as connection:
        return bool(
            connection.exec_driver_sql(
                "SELECT EXISTS (SELECT 1 FROM outbox_messages WHERE state = 'pending')"
            ).scalar_one()
        )


@contextmanager
def _bare_listener(at: Stage) -> Iterator[None]:
    """What no relay on PostgreSQL can do without: woken, it reads, upserts and updates."""
    listening, stop = threading.Event(), threading.Event()

    def listen() -> None:
        with (
            raw_postgresql(at.settings.assistant_db) as ear,
            raw_postgresql(at.settings.assistant_db) as source,
            raw_postgresql(at.settings.gateway) as mirror,
        ):
            ear.execute("LISTEN outbox_messages")
            listening.set()
            while not stop.is_set():
                for _ in ear.notifies(timeout=0.1, stop_after=1):
                    postgresql_batch(source, mirror)

    thread = threading.Thread(target=listen)
    thread.start()
    listening.wait(10)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _wake_ups() -> dict[str, str]:
    """`create_invite` with its NOTIFY and without, in turns, nobody listening."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with stage("postgresql") as at:
        engines = {notify: open_engine(at.settings.assistant_db, notify=notify) for notify in seconds}
        for _ in range(COMMITS):
            for notify, engine in engines.items():
                started = time.perf_counter()
                with Session(engine) as session, session.begin():
                    assistant_store.create_invite(session, source_channel="telegram", contact_id=CONTACT)
                seconds[notify].append(time.perf_counter() - started)
        for engine in engines.values():
            engine.dispose()
    return {
        "PostgreSQL, create_invite: p50 / p99": cuts(seconds[True]),
        "PostgreSQL, create_invite without NOTIFY: p50 / p99": cuts(seconds[False]),
    }
