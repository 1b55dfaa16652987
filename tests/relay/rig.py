"""A relay put together by hand on the stores of a test, and gateways that misbehave on request."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy.orm import Session

import assistant_store
from outbox import Message, Outcome, Verdict
from outbox.fence import Prove
from outbox.leases import Leases
from outbox.message import Destination
from outbox.settle import Settled
from relay.deliver import delivery_of
from relay.destinations.answered import Answered
from relay.destinations.port import Delivery, GatewayFacts, Handle, Port
from relay.drain import Drain
from relay.open import open_gateway
from relay.settings import Settings
from tests.conftest import CONTACT, Stores, allowed

MOST_BATCHES = 1_000


_ANSWERED = Answered()


class Immediate:
    """Answers as it is sent to, in one method for a test to write."""

    def deliver(self, batch: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        raise NotImplementedError

    def send(self, batch: Sequence[Delivery], prove: Prove) -> Handle:
        return _ANSWERED.keep(self.deliver(batch, prove))

    def collect(self, handle: Handle) -> list[Verdict]:
        return _ANSWERED.collect(handle)


class Anonymous(Immediate):
    """What a gateway has to say that answers and says nothing of itself, as the real one."""

    batches = 0

    def probe(self) -> GatewayFacts:
        return GatewayFacts()

    def lacks(self) -> str | None:
        return None

    def claim(self, _assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        raise AssertionError(f"without an identity nothing is claimed: {facts}, {take_over}")

    def close(self) -> None: ...


@dataclass(slots=True)
class Around(Immediate):
    """The gateway ``inner``, as it is."""

    inner: Port

    def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        return self.inner.collect(self.inner.send(messages, prove))

    def probe(self) -> GatewayFacts:
        return self.inner.probe()

    def lacks(self) -> str | None:
        return self.inner.lacks()

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        return self.inner.claim(assistant, facts, take_over=take_over)

    @property
    def batches(self) -> int:
        return self.inner.batches

    def close(self) -> None:
        self.inner.close()


@dataclass(slots=True)
class Meddling(Around):
    """With work of the test's own just before or just after each delivery to it."""

    before: Callable[[Sequence[Delivery]], None] = lambda _: None
    after: Callable[[Sequence[Delivery]], None] = lambda _: None
    delivered: list[list[str]] = field(default_factory=list)
    """The keys of each delivery asked for."""

    def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        self.delivered.append([message.key for message in messages])
        self.before(messages)
        verdicts = self.inner.collect(self.inner.send(messages, prove))
        self.after(messages)
        return verdicts


def answers(gateway: Port, messages: Iterable[Message], prove: Prove = allowed) -> list[Verdict]:
    """What it says of ``messages``, sent as one batch."""
    return gateway.collect(gateway.send([delivery_of(one) for one in messages], prove))


def settings_of(stores: Stores, **given: Any) -> Settings:
    return Settings(assistant_db=stores.source_url, gateway=stores.mirror_url, **given)


@contextmanager
def gateway_of(stores: Stores, **given: Any) -> Iterator[Port]:
    """The product's own gateway on the mirror; it does not wait long for a lock unless told to."""
    gateway = open_gateway(settings_of(stores, **{"gateway_timeout": 0.05, **given}))
    try:
        yield gateway
    finally:
        gateway.close()


@contextmanager
def draining(stores: Stores, gateway: Port | None = None, **given: Any) -> Iterator[Drain]:
    """A relay that holds all free shards; on leaving it gives them up. Retries inside a delivery do not wait."""
    settings = settings_of(stores, **given)
    leases = Leases(stores.source, settings.lease, Destination.GATEWAY)
    with gateway_of(stores) as real:
        drain = Drain(stores.source, gateway or real, leases, settings, sleep=lambda _: None)
        for lapsed in leases.balance():
            drain.suspect(lapsed)
        yield drain
        leases.release()


def create_many(stores: Stores, count: int, contact_id: str = CONTACT) -> list[str]:
    """As many invites in one transaction, which is faster; their ids."""
    with Session(stores.source) as session, session.begin():
        return [
            assistant_store.create_invite(session, source_channel="telegram", contact_id=contact_id).invite.id
            for _ in range(count)
        ]


def drain_all(drain: Drain) -> list[Settled]:
    """Batches until nothing is due or the gateway cannot be reached; everything that came of them.

    The leases are renewed in between, as the relay's own clockwork does.
    """
    settled: list[Settled] = []
    for _ in range(MOST_BATCHES):
        drain.leases.renew()
        batch = drain.batch()
        settled += batch
        if not batch or any(one.verdict.outcome is Outcome.UNREACHABLE for one in batch):
            return settled
    raise AssertionError(f"still not empty after {MOST_BATCHES} batches")


def outcomes(settled: Sequence[Settled]) -> list[Outcome]:
    return [one.verdict.outcome for one in settled]


def everything(stores: Stores) -> list[dict[str, Any]]:
    """Every row of the outbox, to see that nothing at all was written."""
    return stores.messages()
