"""What can be said of each relay that has signed on, by when it last showed itself and by its process."""

from enum import StrEnum

from sqlalchemy import Connection

from outbox import statements
from outbox.leases import SEEN_WITHIN, Relay, process_may_live
from outbox.message import Destination
from outbox.processes import is_here, is_stopped

_SEEN_WITHIN_MS = int(SEEN_WITHIN.total_seconds() * 1000)


class Sighting(StrEnum):
    LIVES = "lives"
    STOPPED = "stopped"
    """Its process is there, and a signal has stopped it: what it said of itself is of the time before."""
    SILENT = "silent"
    """Its process is there, and has not shown itself for 15 s: it hangs, or goes by another clock."""
    UNSEEN = "unseen"
    """It has not shown itself for 15 s, from where nobody here can look for its process."""
    GONE = "gone"
    """Its process is certainly gone, and did not sign off."""


def sightings(connection: Connection, destination: Destination, now: int) -> list[tuple[Relay, Sighting]]:
    """All relays that signed on within the last hour and have not signed off, by their names."""
    return [(relay := Relay(**row), sighting(relay, now)) for row in statements.relays(connection, destination)]


def sighting(relay: Relay, now: int) -> Sighting:
    if not process_may_live(relay):
        return Sighting.GONE
    if is_stopped(relay.host, relay.pid, relay.pid_started):
        return Sighting.STOPPED
    if abs(now - relay.seen_at) <= _SEEN_WITHIN_MS:
        return Sighting.LIVES
    return Sighting.SILENT if is_here(relay.host) else Sighting.UNSEEN
