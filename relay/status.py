"""What an operator asks first: what waits, since when, who drains it, and whether the gateway answers."""

from dataclasses import asdict, dataclass

from sqlalchemy import Engine

from outbox import Destination, State, reading, statements
from outbox.clock import now_ms
from outbox.leases import Relay, live_relays
from relay.gateway import Gateway, GatewayUnreachableError


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

    @property
    def warnings(self) -> list[str]:
        found = []
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


def read_status(source: Engine, gateway: Gateway) -> Status:
    """One look at both sides; works with no relay running and with the gateway down."""
    now = now_ms()
    with reading(source) as connection:
        count = statements.count_by_state(connection, Destination.GATEWAY)
        oldest = statements.oldest_unsettled_at(connection, Destination.GATEWAY)
        relays = tuple(live_relays(connection, Destination.GATEWAY, statements.lease_clock(connection)))
    problem = None
    try:
        gateway.probe()
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
    )
