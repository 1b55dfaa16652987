"""What `create_invite` costs, in turns: beside itself without the outbox; the gateway up, absent and wedged; a heap."""

from bench import burdening, decoupling, enqueuing
from bench.figure import Findings


def measure() -> Findings:
    return Findings(enqueuing.measure() + decoupling.measure() + burdening.measure())
