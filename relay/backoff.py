"""The outer waits, computed by tenacity: between attempts of one message, and between probes of the gateway."""

import time
from dataclasses import dataclass, field
from datetime import timedelta

from tenacity import RetryCallState, Retrying, wait_exponential, wait_random, wait_random_exponential
from tenacity.wait import wait_base

from relay.settings import Settings

MOST_ATTEMPTS_THAT_MATTER = 100


def wait_before_next_attempt(attempts: int, settings: Settings) -> timedelta:
    """Exponential with full jitter in its upper half, so that messages refused together do not return together."""
    first, longest = settings.retry_first.total_seconds(), settings.retry_longest.total_seconds()
    certain = wait_exponential(multiplier=first / 2, max=longest / 2)
    jitter = wait_random_exponential(multiplier=first / 2, max=longest / 2)
    return timedelta(seconds=_seconds(certain + jitter, attempts))


@dataclass(slots=True)
class Breaker:
    """Open while the gateway cannot be reached: then nothing is delivered, only probed, ever less often."""

    settings: Settings
    reason: str = ""
    _failures: int = 0
    _next_probe: float = 0.0
    _wait: wait_base = field(init=False)

    def __post_init__(self) -> None:
        longest = self.settings.probe_longest.total_seconds()
        self._wait = wait_exponential(multiplier=0.2, max=longest) + wait_random(0, 0.1)

    @property
    def is_open(self) -> bool:
        return self._failures > 0

    def failed(self, reason: str = "") -> timedelta:
        """Opens, or stays open; returns the wait until the next probe."""
        self.reason = reason
        self._failures += 1
        wait = min(_seconds(self._wait, self._failures), self.settings.probe_longest.total_seconds())
        self._next_probe = time.monotonic() + wait
        return timedelta(seconds=wait)

    def close(self) -> None:
        self._failures = 0

    def seconds_to_probe(self) -> float:
        """0.0 when a probe is due."""
        return max(0.0, self._next_probe - time.monotonic())


def _seconds(wait: wait_base, attempts: int) -> float:
    state = RetryCallState(Retrying(), None, (), {})
    # Two to the power of a forged count would fill the memory; of an honest one every wait is the longest by then.
    state.attempt_number = max(1, min(attempts, MOST_ATTEMPTS_THAT_MATTER))
    return float(wait(state))
