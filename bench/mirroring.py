"""From the commit of an invite to the moment another process can read it at the gateway, at 20 invites a second.

Beside the relay, in turns on the same stores, a bare listener: woken in the same way, and with the same commits.
"""

import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

import assistant_store
from bench.contest import ROUNDS
from bench.figure import DATABASES, Figure, Findings, to_other
from bench.stage import CONTACT, Stage, bare_commit, relay, stage, with_the_bench
from outbox import read_only

INVITES = 200
WARMING_UP = 5
EVERY_SECONDS = 0.05
LOOK_EVERY_SECONDS = 0.0002
WAKE_UP = {"sqlite": "datagram", "postgresql": "LISTEN"}
AT_MOST = {"sqlite": (1.6, 3.0), "postgresql": (1.5, 3.0)}


def measure(invites: int = INVITES, rounds: int = ROUNDS) -> Findings:
    """p50 and p99 over the invites of all rounds."""
    return Findings([figure for backend in AT_MOST for figure in _on(backend, invites, rounds)])


def _on(backend: str, invites: int, rounds: int) -> list[Figure]:
    ours: list[float] = []
    bare: list[float] = []
    with stage(backend) as at:
        commits = []
        for number in range(rounds):
            turns: list[tuple[list[float], Callable[[Stage], AbstractContextManager[object]]]]
            turns = [(ours, relay), (bare, _bare_listener)]
            for found, listener in turns if number % 2 == 0 else reversed(turns):
                found += _mirrored_by(listener(at), at, invites)
            commits += [bare_commit(at) for _ in range(invites)]
    name = f"{DATABASES[backend]}, commit to mirrored at 20/s / a bare {WAKE_UP[backend]}, read, upsert, update"
    return [
        *to_other(name, ours, bare, *AT_MOST[backend]),
        Figure(f"{DATABASES[backend]}, one bare commit to the same disk, p50", statistics.median(commits) * 1000, "ms"),
    ]


def _mirrored_by(listener: AbstractContextManager[object], at: Stage, invites: int) -> list[float]:
    with listener:
        return [_one(at) for _ in range(WARMING_UP + invites)][WARMING_UP:]


@contextmanager
def _bare_listener(at: Stage) -> Iterator[None]:
    command = [sys.executable, "-P", "-m", "bench.bare", at.settings.assistant_db, at.settings.gateway]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE, env=with_the_bench()) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "listening\n":
                raise RuntimeError("the bare listener did not start")
            yield
        finally:
            process.terminate()


def _one(at: Stage) -> float:
    with Session(at.source) as session, session.begin():
        invite = assistant_store.create_invite(session, source_channel="telegram", contact_id=CONTACT).invite
    committed = time.perf_counter()
    with read_only(at.mirror).connect() as connection:
        while not _is_mirrored(connection, invite.id):
            threading.Event().wait(LOOK_EVERY_SECONDS)
    took = time.perf_counter() - committed
    threading.Event().wait(max(0.0, EVERY_SECONDS - took))
    return took


def _is_mirrored(connection: Connection, invite_id: str) -> bool:
    with connection.begin():
        found = connection.execute(text("SELECT 1 FROM ingress_invites WHERE id = :id"), {"id": invite_id})
        return found.scalar() is not None
