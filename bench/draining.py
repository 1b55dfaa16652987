"""How fast a relay drains a heap of messages, beside the bound, on the same disk in the same minutes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bound import drain_by_hand
from bench.contest import ROUNDS, Results, Run, contest
from bench.heap import Heap, heap, must_be_drained, write_payloads
from bench.peer import PEERS, Peer, drained_by, install
from bench.place import place
from bench.stage import Stage

FEW, MANY = 20_000, 1_000_000
OURS, BOUND = "relay", "bound"


def measure() -> dict[str, str]:
    """Messages a second, medians of interleaved rounds, and the median of each round's ratio to the bound."""
    missing = install()
    figures = {f"peer {package}": f"cannot be installed: {why}" for package, why in missing.items()}
    for backend in ("sqlite", "postgresql"):
        others = [peer for peer in PEERS if peer.backend == backend and peer.package not in missing]
        few, many = race(backend, FEW, others=others), race(backend, MANY)
        figures |= {f"{backend}, {FEW:,} waiting, {name}": told(few, name) for name in few.runs}
        figures |= {f"{backend}, {MANY:,} waiting, {name}": told(many, name) for name in many.runs}
        figures[f"{backend}, rate at {MANY:,} / at {FEW:,}"] = f"{many.rate(OURS) / few.rate(OURS):.2f}"
        figures[f"{backend}, peak memory of the relay"] = f"{few.peak_mib(OURS):.0f}, {many.peak_mib(OURS):.0f} MiB"
    return figures


def told(results: Results, name: str) -> str:
    return f"{results.rate(name):,.0f}/s, ratio to the bound {results.ratio(name, BOUND):.2f}"


def race(backend: str, count: int, rounds: int = ROUNDS, others: Iterable[Peer] = ()) -> Results:
    """The relay, the bound, and such peers as are installed, each from a heap of its own."""
    with (
        place(backend) as where,
        heap(where, count) as ours,
        heap(where, count, as_pull_request=True) as bare,
        TemporaryDirectory(prefix="relay-bench-") as folder,
    ):
        payloads = Path(folder) / "payloads.jsonl"
        write_payloads(payloads, count)
        contestants = {OURS: partial(relayed, ours, count), BOUND: partial(by_hand, bare, count)}
        contestants |= {peer.name: partial(drained_by, peer, where, payloads, count) for peer in others}
        return contest(contestants, rounds)


def relayed(heap: Heap, count: int) -> Run:
    with heap() as at:
        run = drain_alone(at, at.settings.gateway, count)
        must_be_drained(at, count)
    return run


def drain_alone(at: Stage, gateway_url: str, count: int) -> Run:
    """By a process of its own that does what `relay run --until-empty` does."""
    log = at.folder / "relay.log"
    with log.open("w") as lines:
        command = [sys.executable, "-P", "-m", "bench.ours", at.settings.assistant_db, gateway_url]
        printed = subprocess.run(
            command,
            check=True,
            text=True,
            stdout=subprocess.PIPE,
            stderr=lines,
            env=os.environ | {"PYTHONPATH": os.getcwd()},  # noqa: PTH109
        )
    found = json.loads(printed.stdout)
    return Run(count / found["seconds"], found["peak_mib"])


def by_hand(heap: Heap, count: int) -> Run:
    with heap() as at:
        started = time.perf_counter()
        drain_by_hand(at)
        seconds = time.perf_counter() - started
        must_be_drained(at, count)
    return Run(count / seconds)
