"""The fence in front of a destination: a relay sends only while its leases were proved within their length.

The outbox proves a token when it settles. What has left for a destination by then cannot be called back, so a relay
that froze, lost its shards and wakes must find out before it sends anything more.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from outbox.clock import now_ms
from outbox.errors import OutboxError

# A machine's monotonic clock stands still while it is suspended; this one goes on. Where there is none, only the wall
# clock tells of a suspension.
_UPTIME = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

Prove = Callable[[], None]
"""Raises `LeaseLostError` unless the leases of the messages in hand were proved more recently than they are long."""


class LeaseLostError(OutboxError):
    """The leases of the messages in hand may be another relay's by now: nothing more of them may be sent."""


class Proof(NamedTuple):
    """When leases were last seen to stand, by two clocks: seconds since the machine started, and epoch ms."""

    uptime: float
    wall: int

    @classmethod
    def now(cls) -> "Proof":
        """Taken before the transaction that proves a lease begins, so that it is never younger than the lease."""
        return cls(time.clock_gettime(_UPTIME), now_ms())

    @property
    def age_seconds(self) -> float:
        """By the clock that has gone further. Others judge a lease by the wall clock, which may have been set."""
        now = Proof.now()
        return max(now.uptime - self.uptime, (now.wall - self.wall) / 1000)
