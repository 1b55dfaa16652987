"""What `create_invite` costs with the gateway up, absent and wedged, in turns; the three should not differ."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from bench.figure import Figure, latency, p50_p99, told
from bench.stage import CONTACT, Stage, daemon, relay, stage
from outbox import writing

ROUNDS = 12
INVITES = 100
# 50 a second, far above what people do; in a closed loop two processes would only fight for the cores and the lock.
EVERY_SECONDS = 0.02
# A p99 that repeats differs by as much from itself.
NOISE = 1.25


def measure(rounds: int = ROUNDS, invites: int = INVITES) -> list[Figure]:
    """p50 and p99 over all rounds of each condition, the rounds interleaved; the ratios to those of "up"."""
    seconds: dict[str, list[float]] = {"up": [], "absent": [], "wedged": []}
    with stage() as at, relay(at), daemon(at) as assistant:
        for _ in range(rounds):
            for name, condition in (("up", nullcontext()), ("absent", _absent(at)), ("wedged", _wedged(at))):
                with condition:
                    answer = assistant.ask(create=invites, contact_id=CONTACT, every_seconds=EVERY_SECONDS)
                seconds[name] += answer["seconds"]
    figures = [latency("create_invite at 50/s, gateway up", seconds["up"])]
    (up_p50, up_p99) = p50_p99(seconds["up"])
    for name in ("absent", "wedged"):
        p50, p99 = p50_p99(seconds[name])
        beside = f"{told(p99)} to {told(up_p99)} ms; p50 {told(p50)} to {told(up_p50)} ms"
        figures.append(Figure(f"the same, gateway {name} / up, p99", p99 / up_p99, at_most=NOISE, beside=beside))
    return figures


@contextmanager
def _absent(at: Stage) -> Iterator[None]:
    at.mirror.dispose()
    files = [at.folder / f"gateway.db{ending}" for ending in ("", "-wal", "-shm")]
    moved = [path for path in files if path.exists()]
    for path in moved:
        path.rename(path.with_name(f"away-{path.name}"))
    try:
        yield
    finally:
        for path in moved:
            path.with_name(f"away-{path.name}").rename(path)


def _wedged(at: Stage) -> AbstractContextManager[object]:
    return writing(at.mirror)
