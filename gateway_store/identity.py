"""Who this store is, which assistant drains into it, and how many batches it has applied.

A relay compares all three with what its outbox remembers: it must not drain into another store, and a store that
counts fewer batches than it did was restored from an old copy.
"""

from typing import NamedTuple

from sqlalchemy import Connection, text

from gateway_store.errors import OtherAssistantError

_FACTS = {
    "sqlite": text("SELECT id, drained_from, batches FROM store_identity"),
    "postgresql": text(
        "SELECT id, drained_from, CASE WHEN is_called THEN last_value ELSE 0 END AS batches"
        " FROM store_identity, store_batches"
    ),
}
# On PostgreSQL a sequence: two relays that counted in one row would wait for each other's COMMIT.
_COUNT = {
    "sqlite": text("UPDATE store_identity SET batches = batches + 1 RETURNING id, drained_from, batches"),
    "postgresql": text("SELECT id, drained_from, nextval('store_batches') AS batches FROM store_identity"),
}
_CLAIM = text("UPDATE store_identity SET drained_from = :assistant WHERE drained_from IS DISTINCT FROM :assistant")


class StoreFacts(NamedTuple):
    """``drained_from`` is the identity of the assistant whose relay came first, or None."""

    identity: str
    drained_from: str | None
    batches: int


def store_facts(connection: Connection) -> StoreFacts:
    return StoreFacts(*connection.execute(_FACTS[connection.dialect.name]).one())


def count_batch(connection: Connection) -> StoreFacts:
    """Counts the batch of the caller's transaction, and says whose store it is that is being written to."""
    return StoreFacts(*connection.execute(_COUNT[connection.dialect.name]).one())


def claim(connection: Connection, assistant: str, *, take_over: bool = False) -> StoreFacts:
    """Notes whose invites are mirrored here, in the caller's transaction.

    Raises `OtherAssistantError` where it is another assistant's mirror, unless that is to be taken over.
    """
    found = store_facts(connection)
    if found.drained_from not in (None, assistant) and not take_over:
        raise OtherAssistantError(found.identity, str(found.drained_from))
    connection.execute(_CLAIM, {"assistant": assistant})
    return found._replace(drained_from=assistant)
