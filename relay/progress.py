"""Whether a relay works, and does not merely live: only then does it renew its leases."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from outbox import Verdict
from outbox.clock import boot_seconds
from outbox.fence import Prove
from relay.destinations.port import Delivery, GatewayFacts, Handle, Port


@dataclass(slots=True)
class Progress:
    """One moment, until which the drain's loop may take its time without being taken for hung."""

    lease: timedelta
    _until: float = field(init=False)

    def __post_init__(self) -> None:
        self.came_round()

    def came_round(self) -> None:
        """The loop is where it starts its next turn, and may take as long as a lease for it."""
        self._until = boot_seconds() + self.lease.total_seconds()

    @contextmanager
    def awaiting(self, seconds: float) -> Iterator[None]:
        """An answer is awaited that comes, or is given up, within ``seconds``, however short the lease is."""
        self._until = boot_seconds() + max(seconds, self.lease.total_seconds())
        try:
            yield
        finally:
            self.came_round()

    def is_made(self) -> bool:
        return boot_seconds() < self._until


@dataclass(frozen=True, slots=True)
class AwaitedGateway:
    """The gateway ``inner``; while it is asked, ``progress`` knows that an answer is awaited, and how long at most."""

    inner: Port
    progress: Progress
    answers_within: float

    def send(self, batch: Sequence[Delivery], prove: Prove) -> Handle:
        with self.progress.awaiting(self.answers_within):
            return self.inner.send(batch, prove)

    def collect(self, handle: Handle) -> list[Verdict]:
        with self.progress.awaiting(self.answers_within):
            return self.inner.collect(handle)

    def probe(self) -> GatewayFacts:
        with self.progress.awaiting(self.answers_within):
            return self.inner.probe()

    def lacks(self) -> str | None:
        with self.progress.awaiting(self.answers_within):
            return self.inner.lacks()

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        with self.progress.awaiting(self.answers_within):
            return self.inner.claim(assistant, facts, take_over=take_over)

    @property
    def batches(self) -> int:
        return self.inner.batches

    def close(self) -> None:
        self.inner.close()
