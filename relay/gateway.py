"""What the relay asks of a gateway, whatever kind it is."""

from collections.abc import Sequence
from typing import Protocol

from outbox import Message, Verdict


class GatewayUnreachableError(Exception):
    """The gateway cannot be asked now; the message says why, without a secret."""


class Gateway(Protocol):
    """The other side. A call may not be made while a transaction of the daemon's database is open."""

    def deliver(self, messages: Sequence[Message]) -> list[Verdict]:
        """A verdict a message, in order. Delivered means durable there. A bad message does not fail its neighbours."""

    def probe(self) -> None:
        """Returns if a delivery would be answered now; raises `GatewayUnreachableError` if not. Changes nothing."""

    def close(self) -> None: ...
