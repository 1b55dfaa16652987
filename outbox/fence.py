"""The fence in front of a destination: a relay sends only while its leases were proved within their length.

The outbox proves a token when it settles. What has left for a destination by then cannot be called back, so a relay
that froze, lost its shards and wakes must find out before it sends anything more.
"""

from collections.abc import Callable
from typing import NamedTuple

from outbox.clock import boot_seconds, now_ms
from outbox.errors import OutboxError

Prove = Callable[[], None]
"""Raises `LeaseLostError` unless the leases of the messages in hand were proved more recently than they are long."""


class LeaseLostError(OutboxError):
    """The leases of the messages in hand may be another relay's by now: nothing more of them may be sent."""


class Proof(NamedTuple):
    """When leases were last seen to stand, by two clocks: seconds since the machine started, and epoch ms."""

    boot: float
    wall: int

    @classmethod
    def now(cls) -> "Proof":
        """Taken before the transaction that proves a lease begins, so that it is never younger than the lease."""
        return cls(boot_seconds(), now_ms())

    @property
    def age_seconds(self) -> float:
        """By the clock that has gone further. Others judge a lease by the wall clock, which may have been set."""
        now = Proof.now()
        return max(now.boot - self.boot, (now.wall - self.wall) / 1000)
