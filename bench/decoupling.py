"""What `create_invite` costs with the gateway up, absent and wedged, in turns; the three should not differ."""

from contextlib import ExitStack

from bench.contest import in_order_of
from bench.figure import Figure, latency, p50_p99, told
from bench.stage import CONTACT, Stage, daemon, event_of, relay, relay_log, stage
from outbox import writing

ROUNDS = 12
INVITES = 100
# 50 a second, far above what people do; in a closed loop two processes would only fight for the cores and the lock.
EVERY_SECONDS = 0.02
# A p99 that repeats differs by as much from itself.
NOISE = 1.25


def measure(rounds: int = ROUNDS, invites: int = INVITES) -> list[Figure]:
    """p50 and p99 over all rounds; the ratios to those of "up". Each condition has stores and a relay of its own."""
    seconds: dict[str, list[float]] = {"up": [], "absent": [], "wedged": []}
    with ExitStack() as stack:
        at_work = {}
        for name in seconds:
            at = stack.enter_context(stage())
            stack.enter_context(relay(at))
            at_work[name] = at, stack.enter_context(daemon(at))
        _remove_the_gateway(at_work["absent"][0])
        stack.enter_context(writing(at_work["wedged"][0].mirror))
        for number in range(rounds):
            for name in in_order_of(number, seconds):
                answer = at_work[name][1].ask(create=invites, contact_id=CONTACT, every_seconds=EVERY_SECONDS)
                seconds[name] += answer["seconds"]
        for name, (at, _) in at_work.items():
            if _had_trouble(at) == (name == "up"):
                raise RuntimeError(f"the gateway that should be {name} was not")
    figures = [latency("create_invite at 50/s, gateway up", seconds["up"])]
    (up_p50, up_p99) = p50_p99(seconds["up"])
    for name in ("absent", "wedged"):
        p50, p99 = p50_p99(seconds[name])
        beside = f"{told(p99)} to {told(up_p99)} ms; p50 {told(p50)} to {told(up_p50)} ms"
        figures.append(Figure(f"the same, gateway {name} / up, p99", p99 / up_p99, at_most=NOISE, beside=beside))
    return figures


def _remove_the_gateway(at: Stage) -> None:
    at.mirror.dispose()
    for path in at.folder.glob("gateway.db*"):
        path.unlink()


def _had_trouble(at: Stage) -> bool:
    with relay_log(at).open() as lines:
        return any(event_of(line) == "gateway_unreachable" for line in lines)
