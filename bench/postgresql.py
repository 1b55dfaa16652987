"""Both stores on PostgreSQL: how fast one, two and four relays drain, and what a wake-up costs."""

import threading
import time
from contextlib import ExitStack
from functools import partial

from sqlalchemy.orm import Session

import assistant_store
from bench.contest import ROUNDS, Results, Run, contest
from bench.draining import BOUND, by_hand
from bench.figure import Figure, Findings, latency, told
from bench.heap import Heap, heap, must_be_drained
from bench.place import place
from bench.stage import CONTACT, Stage, relay, stage
from outbox import open_engine, reading

MESSAGES = 40_000
RELAYS = (1, 2, 4)
AT_LEAST = {1: 0.7, 2: 1.2, 4: None}
COMMITS = 400


def measure(count: int = MESSAGES, rounds: int = ROUNDS) -> Findings:
    results = race_relays(count, rounds)
    bound = f"{told(results.rate(BOUND))}/s"
    figures = [
        Figure(
            f"PostgreSQL, drain of {count:,} by {relays} {'relay' if relays == 1 else 'relays'} / the bound",
            results.ratio(str(relays), BOUND),
            at_least=AT_LEAST[relays],
            beside=f"{told(results.rate(str(relays)))}/s to {bound}",
        )
        for relays in RELAYS
    ]
    return Findings(figures + _wake_ups())


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


def _wake_ups() -> list[Figure]:
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
    return [
        latency("PostgreSQL, create_invite", seconds[True]),
        latency("PostgreSQL, create_invite without NOTIFY", seconds[False]),
    ]
