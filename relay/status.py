"""What an operator asks first: what waits, since when, who drains it, and whether the gateway answers.

Reads the state of both sides; what is wrong with it is said in words by `relay.status_warnings`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

from sqlalchemy import Connection, Engine

from outbox import Destination, State, reading, statements
from outbox.clock import now_ms
from outbox.leases import Relay
from outbox.redact import redact
from outbox.sightings import Sighting, sightings
from outbox.statements import DrainedInto, Reason
from relay.destinations.port import GatewayFacts, GatewayReadOnlyError, GatewayUnreachableError, Port
from relay.destinations.schemes import known_as, shown_whole
from relay.instants import CLOCKS_DIFFER_BY_MS, with_iso_8601
from relay.missing import with_what_is_remembered
from relay.noted import standing_and_last
from relay.status_warnings import warnings_of, wrong_with
from relay.topics import TOPICS

UP, DOWN, READ_ONLY = "up", "down", "read-only"
MOST_REASONS = 10


class Closed(NamedTuple):
    """A topic that the gateway is too old for: it reads payloads up to ``reads``, and message ``seq`` waits."""

    topic: str
    reads: int
    seq: int


@dataclass(frozen=True, slots=True)
class Status:
    """``oldest_unsettled_age_seconds`` is None when nothing waits; ``gateway`` is ``up``, ``down`` or ``read-only``."""

    assistant_db: str
    """What was looked at, fit to be shown."""
    gateway_url: str
    pending: int
    retrying: int
    dead: int
    delivered: int
    superseded: int
    oldest_unsettled_age_seconds: float | None
    next_try_at: int | None
    """When the first of the retrying messages is due."""
    retry_reasons: tuple[Reason, ...]
    """The commonest."""
    live_relays: int
    relays: tuple[Relay, ...]
    """Those that live, with their own view of the gateway as of ``seen_at``."""
    absent_relays: tuple[tuple[Relay, Sighting], ...]
    """Those that signed on, did not sign off, and do not work now; of the last hour."""
    gateway: str
    gateway_problem: str | None
    gateway_lacks: str | None
    """Why a gateway that answers takes no message at all."""
    closed: tuple[Closed, ...]
    wrong: tuple[str, ...]
    """What does not heal by itself, each with its cure."""
    from_the_future: int | None
    """The first message that waits and was enqueued later than now."""
    clock_ahead_ms: int
    """Of this machine's clock, before the database's; 0 where they agree within a second."""
    looked_at: int
    """By the database's clock."""

    @property
    def warnings(self) -> list[str]:
        return warnings_of(self)

    @property
    def exit_code(self) -> int:
        """4 where the gateway cannot be reached, or 1 where anything needs a person."""
        return 4 if self.gateway == DOWN else int(bool(self.warnings))

    def as_dict(self) -> dict[str, object]:
        """As JSON shows it: each instant in ISO 8601 beside its epoch ms."""
        return with_iso_8601(asdict(self)) | {
            "retry_reasons": [with_iso_8601(one._asdict()) for one in self.retry_reasons],
            "relays": [_relay_as_dict(relay) for relay in self.relays],
            "absent_relays": [_relay_as_dict(relay) | {"seen": how.value} for relay, how in self.absent_relays],
            "closed": [one._asdict() for one in self.closed],
            "warnings": self.warnings,
        }


def _relay_as_dict(relay: Relay) -> dict[str, object]:
    standing, error = standing_and_last(relay.last_error)
    return with_iso_8601(asdict(relay) | {"needs_a_person": standing, "last_error": error})


class _Outbox(NamedTuple):
    """What one look at the assistant's database tells."""

    by_state: dict[str, int]
    oldest: int | None
    from_the_future: int | None
    reasons: tuple[Reason, ...]
    next_try_at: int | None
    closed: tuple[Closed, ...]
    relays: list[tuple[Relay, Sighting]]
    now: int
    database_now: int
    clock_ahead_ms: int


def read_status(source: Engine, gateway: Port, url: str, storage: Sequence[str] = ()) -> Status:
    """Both sides at one moment; works with no relay running and with the gateway, at ``url``, down.

    ``storage`` is what is wrong with where the two databases are kept. Changes nothing.
    """
    with reading(source) as connection:
        assistant = statements.identity(connection)
        into = statements.drained_into(connection, Destination.GATEWAY)
    # After that: what relays have it apply meanwhile can only add to its count. And before all else: what the relays
    # say is then the newer of the two views, and not of an outage that has just ended.
    state, problem, lacks, facts = _ask(gateway, into)
    with reading(source) as connection:
        outbox = _look(connection, facts)
    wrong = [] if facts is None else wrong_with(into, facts, assistant, known_as(url))
    live = tuple(relay for relay, how in outbox.relays if how is Sighting.LIVES)
    return Status(
        assistant_db=shown_whole(source.url.render_as_string(hide_password=False)),
        gateway_url=shown_whole(url),
        pending=outbox.by_state.get(State.PENDING, 0),
        retrying=outbox.by_state.get(State.RETRYING, 0),
        dead=outbox.by_state.get(State.DEAD, 0),
        delivered=outbox.by_state.get(State.DELIVERED, 0),
        superseded=outbox.by_state.get(State.SUPERSEDED, 0),
        oldest_unsettled_age_seconds=None if outbox.oldest is None else max(0, outbox.now - outbox.oldest) / 1000,
        next_try_at=outbox.next_try_at,
        retry_reasons=outbox.reasons,
        live_relays=len(live),
        relays=live,
        absent_relays=tuple(one for one in outbox.relays if one[1] is not Sighting.LIVES),
        gateway=state,
        gateway_problem=problem,
        gateway_lacks=lacks,
        closed=outbox.closed,
        wrong=(*wrong, *storage),
        from_the_future=outbox.from_the_future,
        clock_ahead_ms=outbox.clock_ahead_ms,
        looked_at=outbox.database_now,
    )


def _ask(gateway: Port, into: DrainedInto | None) -> tuple[str, str | None, str | None, GatewayFacts | None]:
    """Its state, what is the trouble, what it lacks, and what it says of itself."""
    try:
        with with_what_is_remembered(into):
            facts = gateway.probe()
        return UP, None, gateway.lacks(), facts
    except GatewayReadOnlyError as error:
        return READ_ONLY, str(error), None, None
    except GatewayUnreachableError as error:
        return DOWN, str(error), None, None


def _look(connection: Connection, facts: GatewayFacts | None) -> _Outbox:
    to = Destination.GATEWAY
    before = now_ms()
    database_now = statements.lease_clock(connection)
    after = now_ms()
    ahead = before - database_now if before > database_now else min(0, after - database_now)
    reads = None if facts is None else facts.reads
    return _Outbox(
        by_state=statements.count_by_state(connection, to),
        oldest=statements.oldest_unsettled_at(connection, to),
        from_the_future=statements.unsettled_since(connection, to, after + CLOCKS_DIFFER_BY_MS),
        # Earlier releases shortened the hashes in what they stored.
        reasons=tuple(
            one._replace(reason=redact(one.reason)) for one in statements.retry_reasons(connection, to, MOST_REASONS)
        ),
        next_try_at=statements.next_try_at(connection, to),
        closed=() if reads is None else tuple(_closed(connection, to, reads)),
        relays=[
            (replace(relay, last_error=relay.last_error and redact(relay.last_error)), how)
            for relay, how in sightings(connection, to, database_now)
        ],
        now=after,
        database_now=database_now,
        clock_ahead_ms=ahead if abs(ahead) > CLOCKS_DIFFER_BY_MS else 0,
    )


def _closed(connection: Connection, to: Destination, reads: int) -> list[Closed]:
    found = ((topic, statements.first_newer_than(connection, to, topic, reads)) for topic in TOPICS)
    return [Closed(topic, reads, seq) for topic, seq in found if seq is not None]
