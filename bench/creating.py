"""What `create_invite` costs with the gateway up, absent and wedged, in turns; the three should not differ."""

import statistics
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from bench.stage import CONTACT, Stage, daemon, relay, stage
from outbox import writing

ROUNDS = 7
INVITES = 150
# Paced like a busy assistant: a closed loop without pauses would measure two processes fighting for two cores.
EVERY_SECONDS = 0.004


def measure() -> dict[str, str]:
    """Median over the rounds of each round's p50 and p99, and their ratios to those with the gateway up."""
    p50: dict[str, list[float]] = {"up": [], "absent": [], "wedged": []}
    p99: dict[str, list[float]] = {"up": [], "absent": [], "wedged": []}
    with stage() as at, relay(at), daemon(at) as assistant:
        for _ in range(ROUNDS):
            for name, condition in (("up", nullcontext()), ("absent", _absent(at)), ("wedged", _wedged(at))):
                with condition:
                    answer = assistant.ask(create=INVITES, contact_id=CONTACT, every_seconds=EVERY_SECONDS)
                cut = statistics.quantiles(answer["seconds"], n=100)
                p50[name].append(cut[49])
                p99[name].append(cut[98])
    shown = {}
    for name in p50:
        shown[f"create_invite, gateway {name}: p50 / p99"] = (
            f"{_ms(p50[name])} / {_ms(p99[name])}, ratio to up {_ratio(p50, name)} / {_ratio(p99, name)}"
        )
    return shown


def _ms(values: list[float]) -> str:
    return f"{statistics.median(values) * 1000:.2f} ms"


def _ratio(values: dict[str, list[float]], name: str) -> str:
    """The median of the ratios of neighbouring rounds, which cancels what both had in common."""
    pairs = zip(values[name], values["up"], strict=True)
    return f"{statistics.median(one / up for one, up in pairs):.2f}"


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
