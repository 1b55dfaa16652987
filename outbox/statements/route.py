"""Who this outbox is, and into which store each of its routes drains."""

from typing import NamedTuple

from sqlalchemy import Connection, text

from outbox.message import Destination


class DrainedInto(NamedTuple):
    """The store that a route was first drained into: its identity, or its URL where it has none."""

    gateway_identity: str | None
    gateway_url: str | None
    batches_seen: int
    """The most that it ever said it had applied."""

    @property
    def gateway(self) -> tuple[str | None, str | None]:
        """What names it: its identity, whatever its URL, or else that."""
        return (self.gateway_identity, None) if self.gateway_identity else (None, self.gateway_url)


def identity(connection: Connection) -> str:
    return str(connection.execute(text("SELECT id FROM outbox_identity")).scalar_one())


_ROUTE = text("SELECT gateway_identity, gateway_url, batches_seen FROM outbox_routes WHERE destination = :destination")


def drained_into(connection: Connection, destination: Destination) -> DrainedInto | None:
    row = connection.execute(_ROUTE, {"destination": destination.value}).one_or_none()
    return None if row is None else DrainedInto(*row)


_PUT_ROUTE = text(
    """
    INSERT INTO outbox_routes (destination, gateway_identity, gateway_url, batches_seen, first_drained_at)
    VALUES (:destination, :identity, :url, :batches, :now)
    ON CONFLICT (destination) DO UPDATE
    SET gateway_identity = excluded.gateway_identity, gateway_url = excluded.gateway_url,
        batches_seen = excluded.batches_seen, first_drained_at = excluded.first_drained_at
    """
)


def put_route(connection: Connection, destination: Destination, into: DrainedInto, now: int) -> None:
    """From now on the route drains into this store, and into no other."""
    given = {"identity": into.gateway_identity, "url": into.gateway_url, "batches": into.batches_seen}
    connection.execute(_PUT_ROUTE, {"destination": destination.value, "now": now} | given)


_SET_BATCHES = """
    UPDATE outbox_routes SET batches_seen = :batches
    WHERE destination = :destination AND gateway_identity = :identity
"""


def see_batches(connection: Connection, destination: Destination, identity: str, batches: int) -> None:
    """Remembers how many batches the route's store has applied, never fewer than before."""
    given = {"destination": destination.value, "identity": identity, "batches": batches}
    connection.execute(text(f"{_SET_BATCHES} AND batches_seen < :batches"), given)


def set_batches(connection: Connection, destination: Destination, identity: str, batches: int) -> None:
    """Begins to count from here: what an old copy of the route's store had lost was delivered again."""
    given = {"destination": destination.value, "identity": identity, "batches": batches}
    connection.execute(text(_SET_BATCHES), given)


def void_leases(connection: Connection, destination: Destination) -> None:
    """No token stands any more."""
    connection.execute(
        text("DELETE FROM outbox_leases WHERE destination = :destination"), {"destination": destination.value}
    )
