"""What an operator asks first: what waits, since when, who drains it, and whether the gateway answers."""

from dataclasses import asdict, dataclass

from sqlalchemy import Engine

from outbox import Destination, State, reading, statements
from outbox.clock import now_ms
from outbox.leases import Relay, live_relays
from outbox.statements import DrainedInto
from relay.errors import OtherGatewayError
from relay.gateway import Gateway, GatewayFacts, GatewayUnreachableError
from relay.instants import in_iso_8601
from relay.introduction import refuse_another, was_restored

# Clocks that disagree by less are in order.
CLOCKS_APART_MS = 5_000


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

    @property
    def warnings(self) -> list[str]:
        found = list(self.wrong)
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


def read_status(source: Engine, gateway: Gateway, url: str) -> Status:
    """Both sides at one moment; works with no relay running and with the gateway, at ``url``, down."""
    now = now_ms()
    with reading(source) as connection:
        assistant = statements.identity(connection)
        into = statements.drained_into(connection, Destination.GATEWAY)
        count = statements.count_by_state(connection, Destination.GATEWAY)
        oldest = statements.oldest_unsettled_at(connection, Destination.GATEWAY)
        relays = tuple(live_relays(connection, Destination.GATEWAY, statements.lease_clock(connection)))
    problem, wrong = None, []
    try:
        wrong = _wrong(into, gateway.probe(), assistant, url)
    except GatewayUnreachableError as error:
        problem = str(error)
    if oldest is not None and oldest > now + CLOCKS_APART_MS:
        wrong.append(
            f"a message was enqueued at {in_iso_8601(oldest)}, in the future: a clock was set back, or is ahead; "
            "set the clocks of all machines by NTP"
        )
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
        wrong=tuple(wrong),
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
