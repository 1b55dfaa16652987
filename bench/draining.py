"""How fast a relay drains a heap of messages, beside the bound, on the same disk in the same minutes."""

import json
import subprocess
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bound import drain_by_hand
from bench.contest import ROUNDS, Results, Run, contest
from bench.figure import DATABASES, Contestant, Figure, Findings, told
from bench.heap import Heap, heap, must_be_drained, write_payloads
from bench.peer import PEERS, Peer, drained_by, install, version_of
from bench.place import place
from bench.stage import Stage, with_the_bench

FEW, MANY = 20_000, 1_000_000
OURS, BOUND, TUNED, OURS_AT_FEW = "relay", "bound", "bound, tuned", "relay at few"
AT_LEAST_TO_BOUND = {"sqlite": 1.0, "postgresql": 0.7}
AT_LEAST_TO_PEER = {"sqlite": 2.0, "postgresql": 4.0}


def measure(count: int = FEW, rounds: int = ROUNDS, *, with_peers: bool = True) -> Findings:
    """Rates, medians of interleaved rounds, and the median of each round's ratio to the bound and to the best peer."""
    missing = install() if with_peers else {}
    figures, contestants = [], []
    for backend in AT_LEAST_TO_BOUND:
        peers = [peer for peer in PEERS if with_peers and peer.backend == backend]
        results = race(backend, count, rounds, [peer for peer in peers if peer.package not in missing])
        figures.append(to_the_bound(backend, count, results, rounds))
        if TUNED in results.runs:
            name = f"{DATABASES[backend]}, drain / the bound with the relay's cache and log"
            figures.append(Figure(name, results.ratio(OURS, TUNED), beside=f"{told(results.rate(TUNED))}/s"))
        if with_peers:
            figures += _to_the_best(backend, results, [peer.name for peer in peers if peer.name in results.runs])
        versions = {peer.name: version_of(peer) for peer in peers if peer.name in results.runs}
        contestants += [contestant(backend, count, name, results, versions.get(name, "")) for name in results.runs]
        problems = {peer.name: missing[peer.package] for peer in peers if peer.package in missing} | results.failed
        contestants += [Contestant(backend, count, name, problem=why) for name, why in problems.items()]
    return Findings(figures, contestants)


def measure_many(count: int = MANY, few: int = FEW, rounds: int = ROUNDS) -> Findings:
    """The relay and the bound at ``count``, and the relay at ``few`` in the same rounds."""
    figures, contestants = [], []
    for backend in AT_LEAST_TO_BOUND:
        results = race_many(backend, count, few, rounds)
        figures += [
            to_the_bound(backend, count, results, rounds),
            Figure(
                f"{DATABASES[backend]}, rate of the relay at {count:,} waiting / at {few:,}",
                results.ratio(OURS, OURS_AT_FEW),
                at_least=0.9,
                beside=f"{told(results.rate(OURS))}/s to {told(results.rate(OURS_AT_FEW))}/s{_of(rounds)}",
            ),
            Figure(
                f"{DATABASES[backend]}, peak memory of the relay at {count:,} waiting",
                megabytes(results.peak_mib(OURS)),
                "MB",
                at_most=100,
            ),
        ]
        contestants += [contestant(backend, count, name, results) for name in (OURS, BOUND)]
    return Findings(figures, contestants)


def to_the_bound(backend: str, count: int, results: Results, rounds: int) -> Figure:
    return Figure(
        f"{DATABASES[backend]}, drain of {count:,} / the bound",
        results.ratio(OURS, BOUND),
        at_least=AT_LEAST_TO_BOUND[backend],
        beside=f"{told(results.rate(OURS))}/s to {told(results.rate(BOUND))}/s{_of(rounds)}",
    )


def _to_the_best(backend: str, results: Results, peers: list[str]) -> list[Figure]:
    """Against the fastest of all, and where that one has help from us, against the fastest as documented too."""
    as_documented = [peer.name for peer in PEERS if peer.variant == "documented" and peer.name in peers]
    best = max(peers, key=results.rate, default=None)
    plain = max(as_documented, key=results.rate, default=None)
    figures = [_to_peer(f"{DATABASES[backend]}, drain / the best peer's", backend, results, best)]
    if plain != best:
        figures.append(
            _to_peer(f"{DATABASES[backend]}, drain / the best peer's as documented", backend, results, plain)
        )
    return figures


def _to_peer(name: str, backend: str, results: Results, peer: str | None) -> Figure:
    least = AT_LEAST_TO_PEER[backend]
    if peer is None:
        return Figure(name, None, at_least=least, beside="none could take part")
    beside = f"{peer}, {told(results.rate(peer))}/s"
    return Figure(name, results.ratio(OURS, peer), at_least=least, beside=beside)


def contestant(backend: str, count: int, name: str, results: Results, version: str = "") -> Contestant:
    lowest_and_highest = results.lowest_and_highest(name)
    return Contestant(
        backend, count, name, results.rate(name), results.ratio(name, BOUND), *lowest_and_highest, version
    )


def _of(rounds: int) -> str:
    return "" if rounds == ROUNDS else f", {rounds} round{'' if rounds == 1 else 's'} only"


def megabytes(mib: float) -> float:
    return mib * 2**20 / 1e6


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
        if backend == "sqlite":
            contestants[TUNED] = partial(by_hand, bare, count, tuned=True)
        contestants |= {peer.name: partial(drained_by, peer, where, payloads, count) for peer in others}
        return contest(contestants, rounds)


def race_many(backend: str, count: int, few: int, rounds: int) -> Results:
    with (
        place(backend) as where,
        heap(where, few) as ours_at_few,
        heap(where, count) as ours,
        heap(where, count, as_pull_request=True) as bare,
    ):
        contestants = {
            OURS: partial(relayed, ours, count),
            BOUND: partial(by_hand, bare, count),
            OURS_AT_FEW: partial(relayed, ours_at_few, few),
        }
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
            text=True,
            stdout=subprocess.PIPE,
            stderr=lines,
            env=with_the_bench(),
        )
        if printed.returncode:
            raise RuntimeError(f"the relay failed: {log.read_text()[-2_000:]}")
    found = json.loads(printed.stdout)
    return Run(count / found["seconds"], found["peak_mib"])


def by_hand(heap: Heap, count: int, *, tuned: bool = False) -> Run:
    with heap() as at:
        seconds = drain_by_hand(at, tuned=tuned)
        must_be_drained(at, count)
    return Run(count / seconds)
