"""What `create_invite` costs with the gateway up, absent and wedged, in turns; the three should not differ."""

import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from bench.stage import CONTACT, Stage, daemon, relay, stage
from outbox import writing

ROUNDS = 6
INVITES = 100
# 50 a second, far above what people do; in a closed loop two processes would only fight for the cores and the lock.
EVERY_SECONDS = 0.02


def measure() -> dict[str, str]:
    """p50 and p99 over all rounds of each condition, the rounds interleaved, and their ratios to those of "up"."""
    seconds: dict[str, list[float]] = {"up": [], "absent": [], "wedged": []}
    with stage() as at, relay(at), daemon(at) as assistant:
        for _ in range(ROUNDS):
            for name, condition in (("up", nullcontext()), ("absent", _absent(at)), ("wedged", _wedged(at))):
                with condition:
                    answer = assistant.ask(create=INVITES, contact_id=CONTACT, every_seconds=EVERY_SECONDS)
                seconds[name] += answer["seconds"]
    cuts = {name: statistics.quantiles(values, n=100) for name, values in seconds.items()}
    p50 = {name: cut[49] for name, cut in cuts.items()}
    p99 = {name: cut[98] for name, cut in cuts.items()}
    return {
        f"create_invite, gateway {name}: p50 / p99": (
            f"{p50[name] * 1000:.2f} / {p99[name] * 1000:.2f} ms, "
            f"ratio to up {p50[name] / p50['up']:.2f} / {p99[name] / p99['up']:.2f}"
        )
        for name in cuts
    }


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
