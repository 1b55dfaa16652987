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
from bench.stage import CONTACT, Stage, relay, relay_log, stage, words_of
from outbox import open_engine, reading

MESSAGES = 40_000
RELAYS = (1, 2, 4)
AT_LEAST = {1: 0.7, 2: 1.2, 4: None}
COMMITS = 1_000
LOOK_EVERY_SECONDS = 0.02


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
    """Messages a second from the moment the gateway can be had, all relays waiting for it with their shares, to the
    last one settled."""
    with ExitStack() as stack:
        with at.mirror.begin() as connection:
            connection.exec_driver_sql("LOCK TABLE ingress_invites IN ACCESS EXCLUSIVE MODE")
            for number in range(relays):
                stack.enter_context(relay(at, number, RELAY_PROBE_LONGEST="0.1", RELAY_GATEWAY_TIMEOUT="0.05"))
            while _smallest_share(at, relays) < 64 // relays:
                threading.Event().wait(LOOK_EVERY_SECONDS)
        started = time.perf_counter()
        while _waiting(at):
            threading.Event().wait(LOOK_EVERY_SECONDS)
        seconds = time.perf_counter() - started
    delivered = [_delivered(at, number) for number in range(relays)]
    if min(delivered) < count / relays / 2:
        raise RuntimeError(f"of {count} messages the relays delivered {delivered}: they did not share the work")
    return count / seconds


def _smallest_share(at: Stage, relays: int) -> int:
    with reading(at.source) as connection:
        shares = connection.exec_driver_sql("SELECT count(*) FROM outbox_leases GROUP BY owner").scalars().all()
    return min(shares) if len(shares) == relays else 0


def _delivered(at: Stage, number: int) -> int:
    with relay_log(at, number).open() as lines:
        return sum(words["count"] for words in map(words_of, lines) if words["event"] == "delivered")


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
