"""Before a relay drains: is this the gateway that the outbox drains into, and is it no other assistant's?"""

from contextlib import suppress
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine

from outbox import Destination, reading, statements, writing
from outbox.clock import now_ms
from outbox.statements import DrainedInto
from relay.destinations.port import GatewayFacts, GatewayUnreachableError, Port, named
from relay.errors import OtherGatewayError
from relay.missing import with_what_is_remembered

CURE = "to make it this outbox's gateway from now on: `relay run --new-gateway`, then `relay replay --all`"

log = structlog.get_logger()


@dataclass(slots=True)
class Introduction:
    """Of one relay to its gateway, as soon as that can be reached, and again after each outage."""

    outbox: Engine
    gateway: Port
    destination: Destination
    url: str
    """`relay.destinations.schemes.known_as`: a gateway without an identity is known by it."""
    new_gateway: bool = False
    """Whatever was drained into before, from now on it is this one."""
    is_made: bool = False
    _batches_noted: int = 0
    _counted: int = 0
    """How many batches it last said it had applied."""
    _into: DrainedInto | None = None
    """What this relay was introduced to."""

    def make(self) -> None:
        """Raises `OtherGatewayError` where the relay must not drain, `GatewayUnreachableError` where it cannot ask."""
        with reading(self.outbox) as connection:
            assistant = statements.identity(connection)
            into = statements.drained_into(connection, self.destination)
        # After that: what other relays have it apply meanwhile can only add to its count.
        with with_what_is_remembered(into):
            facts = self.gateway.probe()
        if not self.new_gateway:
            refuse_another(into, facts, assistant, self.url)
        if facts.identity is not None:
            facts = self.gateway.claim(assistant, facts, take_over=self.new_gateway)
        if not self._remember(into, facts):
            # Another relay has given the outbox another gateway since it was read above.
            self.make()
            return
        if self.new_gateway and self._into and self._into.restored_seen_at is not None:
            log.warning("new_gateway", gateway=self.url, next_step="relay replay --all")
        self.is_made, self.new_gateway = True, False

    def refuse_if_moved(self) -> None:
        """Raises `OtherGatewayError` where another relay has made another gateway that of this outbox since."""
        if self._into is None:
            return
        with reading(self.outbox) as connection:
            into = statements.drained_into(connection, self.destination)
        if into is None:
            # The outbox was restored from a copy of before its first drain.
            with writing(self.outbox) as connection:
                into = statements.drained_into_for_change(connection, self.destination)
                if into is None:
                    statements.put_route(connection, self.destination, self._into, now_ms())
                    return
        if into.gateway != self._into.gateway:
            raise OtherGatewayError(
                f"this outbox drains into {_name_of(into)} by now, and not into {_name_of(self._into)}; "
                f"this relay ends. {CURE}"
            )

    def note_batches(self) -> None:
        """Keeps how many batches the gateway has applied: one restored from a copy will have applied fewer."""
        batches = self.gateway.batches
        identity = None if self._into is None else self._into.gateway_identity
        if identity is not None and batches > self._batches_noted:
            with writing(self.outbox) as connection:
                statements.see_batches(connection, self.destination, identity, batches)
            self._batches_noted = batches

    def notice_a_restore(self) -> None:
        """Remembers that the gateway counts fewer batches than it last did to this relay.

        To be called before the messages are settled: whoever waits for them may begin to count from here then.
        """
        batches = self.gateway.batches
        identity = None if self._into is None else self._into.gateway_identity
        if identity is not None and batches < self._counted:
            with writing(self.outbox) as connection:
                statements.see_restored(connection, self.destination, identity, now_ms())
            self._batches_noted = 0
        self._counted = batches

    def _remember(self, into: DrainedInto | None, facts: GatewayFacts) -> bool:
        """False, and nothing written, where the outbox was given another gateway than ``into`` meanwhile."""
        found = self._found(into, into, facts)
        if found != into:
            with writing(self.outbox) as connection:
                by_now = statements.drained_into_for_change(connection, self.destination)
                if (by_now and by_now.gateway) != (into and into.gateway):
                    return False
                found = self._found(into, by_now, facts)
                statements.put_route(connection, self.destination, found, now_ms())
                if into is None or into.gateway != found.gateway:
                    # Of relays that drain into the one before: they settle nothing more.
                    statements.void_leases(connection, self.destination)
        self._into = found
        self._batches_noted = found.batches_seen
        return True

    def _found(self, into: DrainedInto | None, by_now: DrainedInto | None, facts: GatewayFacts) -> DrainedInto:
        """``into`` was read before the gateway was asked: only with that can its count be compared."""
        found = DrainedInto(facts.identity, self.url, facts.batches)
        if self.new_gateway and (into is None or into.gateway != found.gateway):
            # Also where nothing says what was drained into before: an outbox of the first release does not.
            return found._replace(restored_seen_at=now_ms())
        if into is None or by_now is None:
            return found
        seen_now = now_ms() if into.restored_seen_at is None and wants_a_replay(into, facts) else None
        return found._replace(
            batches_seen=max(facts.batches, by_now.batches_seen),
            restored_seen_at=by_now.restored_seen_at or seen_now,
        )


def refuse_elsewhere(outbox: Engine, gateway: Port, destination: Destination, url: str) -> None:
    """Raises `OtherGatewayError` where the outbox does not drain into this gateway; one that cannot be asked passes."""
    with suppress(GatewayUnreachableError):
        facts = gateway.probe()
        with reading(outbox) as connection:
            assistant = statements.identity(connection)
            into = statements.drained_into(connection, destination)
        refuse_another(into, facts, assistant, url)


def count_from_here(outbox: Engine, gateway: Port, destination: Destination, url: str) -> None:
    """After a replay of everything: what the gateway lacked is there, whatever it counts.

    Where the gateway cannot be asked just now, the next replay does it.
    """
    with suppress(GatewayUnreachableError):
        facts = gateway.probe()
        asked = DrainedInto(facts.identity, url, facts.batches)
        with writing(outbox) as connection:
            into = statements.drained_into_for_change(connection, destination)
            if into is not None and into.gateway == asked.gateway:
                statements.count_batches_from(connection, destination, facts.batches)


def refuse_another(into: DrainedInto | None, facts: GatewayFacts, assistant: str, url: str) -> None:
    """Raises `OtherGatewayError` unless an outbox that was drained ``into`` one gateway may drain into this one."""
    if facts.drained_from not in (None, assistant):
        raise OtherGatewayError(
            f"{named(facts.identity, url)} mirrors the invites of another assistant, {facts.drained_from}, and not of "
            f"this one, {assistant}. Nothing was drained; {CURE}"
        )
    if into is None:
        return
    is_the_same = into.gateway_url == url if into.gateway_identity is None else into.gateway_identity == facts.identity
    if not is_the_same:
        raise OtherGatewayError(
            f"this outbox drains into {named(into.gateway_identity, into.gateway_url or '')}, and not into "
            f"{named(facts.identity, url)}. Nothing was drained; {CURE}"
        )


def wants_a_replay(into: DrainedInto | None, facts: GatewayFacts) -> bool:
    """Whether the gateway lacks what was delivered before: it is a new one, or has applied fewer batches than it once
    said.

    Once seen, it is remembered until `count_from_here`, however many batches the gateway applies from then on.
    """
    if into is None or into.gateway_identity != facts.identity:
        return False
    return into.restored_seen_at is not None or facts.batches < into.batches_seen


def _name_of(into: DrainedInto | None) -> str:
    return "no gateway" if into is None else named(into.gateway_identity, into.gateway_url or "")
