"""Who holds how many shards, and invites whose messages lie in shards of the test's choice."""

from collections.abc import Collection

from outbox import SHARDS, reading, shard_of
from outbox import statements as outbox_statements
from outbox.message import Destination
from tests.conftest import Stores, rows
from tests.postgresql.waiting import until
from tests.system.processes import RelayProcess


def owner(started: RelayProcess) -> str:
    """The name under which it holds leases; its first log line tells."""
    name: str = started.events("started")[0]["relay"]
    return name


def clock(stores: Stores) -> int:
    """The one by which leases run out."""
    with reading(stores.source) as connection:
        return outbox_statements.lease_clock(connection)


def first_end(stores: Stores, started: RelayProcess) -> int:
    """When the first of its leases runs out."""
    query = f"SELECT min(expires_at) AS first FROM outbox_leases WHERE owner = '{owner(started)}'"
    first: int = rows(stores.source, query)[0]["first"]
    return first


def shards_of(stores: Stores) -> dict[str, list[int]]:
    """Shards by owner, of leases that have not run out."""
    held: dict[str, list[int]] = {}
    with reading(stores.source) as connection:
        now = outbox_statements.lease_clock(connection)
        for shard, name, _, expires_at, _ in outbox_statements.leases(connection, Destination.GATEWAY):
            if expires_at > now:
                held.setdefault(name, []).append(shard)
    return held


def until_shared_evenly(stores: Stores, relays: Collection[RelayProcess]) -> None:
    """By these relays, all shards, and nobody else."""
    names = {owner(one) for one in relays}
    least, most = SHARDS // len(names), -(-SHARDS // len(names))

    def is_even() -> bool:
        held = shards_of(stores)
        counts = [len(shards) for shards in held.values()]
        return held.keys() == names and sum(counts) == SHARDS and min(counts) >= least and max(counts) <= most

    until(f"{len(names)} relays share {SHARDS} shards evenly", is_even)


def create_in(stores: Stores, shards: Collection[int], number: int = 1) -> list[str]:
    """Invites, created one by one, until ``number`` are in ``shards``; those."""
    found: list[str] = []
    while len(found) < number:
        id_ = stores.create().invite.id
        if shard_of(id_) in shards:
            found.append(id_)
    return found
