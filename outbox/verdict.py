"""What came of handing one message to the other side; every delivery ends as exactly one of these."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from outbox.redact import redact_reason


class Outcome(StrEnum):
    DELIVERED = "delivered"
    UNREACHABLE = "unreachable"
    REFUSED_FOR_NOW = "refused_for_now"
    REFUSED_FOR_GOOD = "refused_for_good"
    TOPIC_CLOSED = "topic_closed"
    """The destination is older than the message: it does not know the method, or not the payload's schema version."""
    LEASE_LOST = "lease_lost"


@dataclass(frozen=True, slots=True)
class Verdict:
    """An outcome and, unless delivered, the reason in words that an operator can act on.

    The reason is fit to be stored and shown from the start (`redact_reason`): what a destination says is neither
    searched nor copied inside the transaction that settles.
    """

    outcome: Outcome
    reason: str | None = None
    reads: int = 0
    """With ``topic_closed``: the highest schema version of the topic that the destination reads, 0 for none at all."""

    def __post_init__(self) -> None:
        if self.reason is not None:
            object.__setattr__(self, "reason", redact_reason(self.reason))


DELIVERED = Verdict(Outcome.DELIVERED)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a message refused for now is tried again, and when it is given up."""

    give_up_after: timedelta
    """Compared with the time that a message has spent being refused; an outage is none."""
    longest_wait: timedelta
    """The upper bound of every wait."""

    def too_far(self, now: int) -> int:
        """Epoch ms beyond which no due time can lie, unless it was written before the clock stepped back."""
        return now + self.longest_wait // timedelta(milliseconds=1)
