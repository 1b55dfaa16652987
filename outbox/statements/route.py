"""Who this outbox is, and into which store each of its routes drains."""

from typing import NamedTuple

from sqlalchemy import Connection, text

from outbox.message import Destination
from outbox.statements.lease import lock_leases


class DrainedInto(NamedTuple):
    """The store that a route was first drained into: its identity, or its URL where it has none."""

    gateway_identity: str | None
    gateway_url: str | None
    batches_seen: int
    """The most that it ever said it had applied."""
    restored_seen_at: int | None = None
    """When it was first seen to have applied fewer, so that it was restored from an old copy and lacks what came after;
    or when it took the place of another, and lacks what that was given."""

    @property
    def gateway(self) -> tuple[str | None, str | None]:
        """What names it: its identity, whatever its URL, or else that."""
        return (self.gateway_identity, None) if self.gateway_identity else (None, self.gateway_url)


def identity(connection: Connection) -> str:
    return str(connection.execute(text("SELECT id FROM outbox_identity")).scalar_one())


_ROUTE = text(
    """
    SELECT gateway_identity, gateway_url, batches_seen, restored_seen_at FROM outbox_routes
    WHERE destination = :destination
    """
)


def drained_into(connection: Connection, destination: Destination) -> DrainedInto | None:
    row = connection.execute(_ROUTE, {"destination": destination.value}).one_or_none()
    return None if row is None else DrainedInto(*row)


def drained_into_for_change(connection: Connection, destination: Destination) -> DrainedInto | None:
    """As it stands until the caller's writing transaction ends: nobody else changes it meanwhile."""
    lock_leases(connection)
    return drained_into(connection, destination)


_PUT_ROUTE = text(
    """
    INSERT INTO outbox_routes
        (destination, gateway_identity, gateway_url, batches_seen, restored_seen_at, first_drained_at)
    VALUES (:destination, :identity, :url, :batches, :restored, :now)
    ON CONFLICT (destination) DO UPDATE
    SET gateway_identity = excluded.gateway_identity, gateway_url = excluded.gateway_url,
        batches_seen = excluded.batches_seen, restored_seen_at = excluded.restored_seen_at,
        first_drained_at = excluded.first_drained_at
    """
)


def put_route(connection: Connection, destination: Destination, into: DrainedInto, now: int) -> None:
    """From now on the route drains into this store, and into no other."""
    given = {
        "identity": into.gateway_identity,
        "url": into.gateway_url,
        "batches": into.batches_seen,
        "restored": into.restored_seen_at,
    }
    connection.execute(_PUT_ROUTE, {"destination": destination.value, "now": now} | given)


_OF_THE_STORE = "WHERE destination = :destination AND gateway_identity = :identity"
_SEE_BATCHES = text(
    f"UPDATE outbox_routes SET batches_seen = :batches {_OF_THE_STORE} AND batches_seen < :batches"  # noqa: S608
)
_SEE_RESTORED = text(
    f"UPDATE outbox_routes SET restored_seen_at = :now {_OF_THE_STORE} AND restored_seen_at IS NULL"  # noqa: S608
)
_COUNT_FROM = text(
    "UPDATE outbox_routes SET batches_seen = :batches, restored_seen_at = NULL WHERE destination = :destination"
)


def see_batches(connection: Connection, destination: Destination, identity: str, batches: int) -> None:
    """Remembers how many batches the route's store has applied, never fewer than before."""
    connection.execute(_SEE_BATCHES, {"destination": destination.value, "identity": identity, "batches": batches})


def see_restored(connection: Connection, destination: Destination, identity: str, now: int) -> None:
    """Remembers that the route's store was restored from an old copy, until `count_batches_from`."""
    connection.execute(_SEE_RESTORED, {"destination": destination.value, "identity": identity, "now": now})


def count_batches_from(connection: Connection, destination: Destination, batches: int) -> None:
    """Begins to count from here: what the route's store had lost, or never had, was delivered again.

    The caller has looked with `drained_into_for_change` whether it is still the store that it means.
    """
    connection.execute(_COUNT_FROM, {"destination": destination.value, "batches": batches})


def void_leases(connection: Connection, destination: Destination) -> None:
    """No token stands any more."""
    connection.execute(
        text("DELETE FROM outbox_leases WHERE destination = :destination"), {"destination": destination.value}
    )
