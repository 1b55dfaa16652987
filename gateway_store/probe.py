"""What a relay learns of this store before it delivers; an answer means that the store takes invites now."""

from collections.abc import Callable

from sqlalchemy import Connection, Engine

from gateway_store.identity import StoreFacts, store_facts
from gateway_store.invite import TABLE
from gateway_store.payload import SCHEMA_VERSION
from outbox.engine import takes_writes, writing


class StoreReadOnlyError(Exception):
    """The store can be read, and takes no invite: a standby, or a server set to read-only."""


def probe_store(engine: Engine, ask: Callable[[Connection], StoreFacts] = store_facts) -> StoreFacts:
    """`store_facts`, from inside a transaction that could write; it waits for the lock as long as a batch does.

    ``ask`` may be a `claim` instead. Raises `StoreReadOnlyError`, what ``ask`` raises, and where the database cannot
    work what `mirror_and_commit` raises.
    """
    with writing(engine) as connection:
        connection.exec_driver_sql(f"SELECT count(*) FROM (SELECT 1 FROM {TABLE} LIMIT 1) AS one")  # noqa: S608 - ours
        if not takes_writes(connection):
            raise StoreReadOnlyError("the gateway's database is read-only")
        return ask(connection)


def in_json(facts: StoreFacts) -> dict[str, object]:
    """As facts stand in the answer to a probe."""
    return {
        "schemaVersion": SCHEMA_VERSION,
        "identity": facts.identity,
        "drainedFrom": facts.drained_from,
        "batches": facts.batches,
    }
