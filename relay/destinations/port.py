"""What a relay asks of a destination, whatever kind it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NewType, Protocol

from outbox import Verdict
from outbox.fence import Prove


class GatewayUnreachableError(Exception):
    """The gateway cannot be asked now; the message says why, without a secret."""

    nothing: str | None = None
    """Where there is no store at all: what is not there, in words without a cure."""


class GatewayUnusableError(GatewayUnreachableError):
    """What is there is no store of a gateway that this release can use; that does not pass as an outage does."""


def named(identity: str | None, url: str) -> str:
    return f"{url}, a gateway without an identity" if identity is None else f"gateway {identity} ({url})"


class GatewayReadOnlyError(GatewayUnreachableError):
    """It answers, and its store can be read, but takes no invite now."""


KNOWN_TO_ALL = 1
"""The schema version of payloads that every gateway reads, also one that says nothing of versions."""


@dataclass(frozen=True, slots=True)
class GatewayFacts:
    """What a gateway says of itself. The real one says nothing: it has no identity, and is known by its URL alone."""

    identity: str | None = None
    drained_from: str | None = None
    """The assistant whose invites it mirrors; None while no relay has drained into it."""
    batches: int = 0
    """How many it has applied."""
    reads: int = KNOWN_TO_ALL
    """The highest schema version of payloads that it reads."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as a destination sees it; how the outbox numbers it is none of the destination's business."""

    topic: str
    key: str
    version: int
    payload: str

    def __repr__(self) -> str:
        return f"Delivery(topic={self.topic!r}, key={self.key!r}, version={self.version})"


Handle = NewType("Handle", int)
"""Names a batch that was sent, until its verdicts are collected."""


class Port(Protocol):
    """The other side. A call may not be made while a transaction of the daemon's database is open."""

    def send(self, batch: Sequence[Delivery], prove: Prove) -> Handle:
        """Puts a batch under way. How much of it is done on return is the kind's own affair, and so is how many batches
        may be under way, how many calls one message takes, and what becomes of an answer that comes late.

        Calls ``prove`` before whatever cannot be called back: each write to a socket; the first write and the COMMIT of
        a transaction. Once that raises, nothing more of ``batch`` leaves: what has no answer is `lease_lost`. Where it
        raises `LeaseLostError` itself, all of it is.
        """

    def collect(self, handle: Handle) -> list[Verdict]:
        """Waits for a batch, and returns its verdicts: one for each position, once.

        Delivered means durable there. A bad message does not fail its neighbours.
        """

    def probe(self) -> GatewayFacts:
        """Returns if a delivery would be answered now; raises `GatewayUnreachableError` if not. Changes nothing.

        A store that is known to take no writes is a `GatewayReadOnlyError`.
        """

    def lacks(self) -> str | None:
        """What keeps a gateway that answers from taking any message at all, such as a method that it does not have.

        None where there is nothing. Asks it; raises as `probe` does, and changes nothing.
        """

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        """Has the gateway that said ``facts`` note whose invites it mirrors; from now on nothing is delivered to
        another one. Raises `GatewayUnreachableError`, also where it is another gateway by now."""

    @property
    def batches(self) -> int:
        """How many the gateway had applied when it last said so; 0 where it says nothing of that."""

    def close(self) -> None: ...
