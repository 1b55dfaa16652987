"""What the relay asks of a gateway, whatever kind it is."""

from collections.abc import Sequence
from typing import Protocol

from outbox import Message, Verdict
from outbox.fence import Prove


class GatewayUnreachableError(Exception):
    """The gateway cannot be asked now; the message says why, without a secret."""


class Gateway(Protocol):
    """The other side. A call may not be made while a transaction of the daemon's database is open."""

    def deliver(self, messages: Sequence[Message], prove: Prove) -> list[Verdict]:
        """A verdict a message, in order. Delivered means durable there. A bad message does not fail its neighbours.

        Calls ``prove`` before whatever cannot be called back: each write to a socket; the first write and the COMMIT of
        a transaction. Once that raises, nothing more of ``messages`` leaves: those without an answer are `lease_lost`.
        """

    def probe(self) -> None:
        """Returns if a delivery would be answered now; raises `GatewayUnreachableError` if not. Changes nothing."""

    def close(self) -> None: ...
