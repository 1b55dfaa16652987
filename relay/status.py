"""What an operator asks first: what waits, since when, who drains it, and whether the gateway answers."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Engine

from outbox import Destination, State, reading, statements
from outbox.clock import now_ms
from outbox.leases import Relay, live_relays
from outbox.redact import printable
from outbox.statements import DrainedInto
from relay.errors import OtherGatewayError
from relay.gateway import Gateway, GatewayFacts, GatewayUnreachableError
from relay.instants import in_iso_8601
from relay.introduction import refuse_another, was_restored

CLOCKS_DIFFER_BY_MS = 1_000
"""The daemon's machine and this one need not agree to the millisecond."""


@dataclass(frozen=True, slots=True)
class Status:
    """``oldest_unsettled_age_seconds`` is None when nothing waits; ``gateway`` is ``up`` or ``down``."""

    pending: int
    retrying: int
    dead: int
    delivered: int
    superseded: int
    oldest_unsettled_age_seconds: float | None
    live_relays: int
    relays: tuple[Relay, ...]
    gateway: str
    gateway_problem: str | None
    wrong: tuple[str, ...]
    """What does not heal by itself, each with its cure."""
    from_the_future: int | None
    """The first message that waits and was enqueued later than now."""

    @property
    def warnings(self) -> list[str]:
        found = list(self.wrong)
        if self.from_the_future is not None:
            found.append(
                f"message {self.from_the_future} is from the future: it was enqueued at a time that has not come yet, "
                "and is delivered all the same; set the clock of the machine that enqueues"
            )
        waiting = self.pending + self.retrying
        if waiting and not self.live_relays:
            found.append(f"{waiting} messages wait and no relay lives; start one with `relay run`")
        if self.dead:
            found.append(f"{self.dead} messages are dead; see `relay dead list`")
        if self.gateway_problem:
            found.append(f"the gateway is down: {self.gateway_problem}")
        return found

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"warnings": self.warnings}


def read_status(source: Engine, gateway: Gateway, url: str, storage: Sequence[str] = ()) -> Status:
    """Both sides at one moment; works with no relay running and with the gateway, at ``url``, down.

    ``storage`` is what the two databases cannot keep.
    """
    now = now_ms()
    with reading(source) as connection:
        assistant = statements.identity(connection)
        into = statements.drained_into(connection, Destination.GATEWAY)
        count = statements.count_by_state(connection, Destination.GATEWAY)
        oldest = statements.oldest_unsettled_at(connection, Destination.GATEWAY)
        ahead = statements.unsettled_since(connection, Destination.GATEWAY, now + CLOCKS_DIFFER_BY_MS)
        relays = tuple(live_relays(connection, Destination.GATEWAY, statements.lease_clock(connection)))
    problem: str | None = None
    wrong: list[str] = []
    try:
        wrong = _wrong(into, gateway.probe(), assistant, url)
    except GatewayUnreachableError as error:
        problem = str(error)
    return Status(
        pending=count.get(State.PENDING, 0),
        retrying=count.get(State.RETRYING, 0),
        dead=count.get(State.DEAD, 0),
        delivered=count.get(State.DELIVERED, 0),
        superseded=count.get(State.SUPERSEDED, 0),
        oldest_unsettled_age_seconds=None if oldest is None else max(0, now - oldest) / 1000,
        live_relays=len(relays),
        relays=relays,
        gateway="down" if problem else "up",
        gateway_problem=problem,
        wrong=(*wrong, *storage),
        from_the_future=ahead,
    )


def _wrong(into: DrainedInto | None, facts: GatewayFacts, assistant: str, url: str) -> list[str]:
    """What is wrong with a gateway that answers."""
    try:
        refuse_another(into, facts, assistant, url)
    except OtherGatewayError as error:
        return [str(error)]
    if into is not None and was_restored(into, facts):
        return [
            f"the gateway was restored from an old copy: it has applied {facts.batches} batches, and had applied "
            f"{into.batches_seen} before; `relay replay --all` brings back what the copy lacks"
        ]
    return []


def relay_line(relay: Relay) -> str:
    """What a relay says of itself, for an operator to read."""
    parts = [f"{relay.id}, since {in_iso_8601(relay.started_at)}", f"version {relay.version}"]
    if relay.gateway:
        parts.append(f"into {relay.gateway}")
    if relay.last_delivered_at is not None:
        parts.append(f"last delivered at {in_iso_8601(relay.last_delivered_at)}")
    if relay.down_since is not None:
        parts.append(f"its gateway down since {in_iso_8601(relay.down_since)}")
    if relay.last_error is not None:
        parts.append(f"last error: {relay.last_error}")
    return printable(", ".join(parts))
