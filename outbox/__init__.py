"""A generic transactional outbox: messages that commit with the rows they copy, leases, and settling under a fence.

It knows no invite and no gateway. Whoever drains it is in another package.
"""

from outbox.database.engine import configure_engine, open_engine, read_only, reading, writing
from outbox.database.migrate import upgrade
from outbox.enqueue import enqueue
from outbox.errors import (
    DatabaseMissingError,
    FileMissingError,
    InheritedConnectionError,
    InvalidMessageError,
    MountedFileError,
    OutboxError,
    OutboxFullError,
    OutcomeUnknownError,
    SchemaOutdatedError,
    SchemaRefusedError,
    SequenceError,
    UnsupportedDriverError,
    UntrustedPlaceError,
)
from outbox.message import SHARDS, Destination, Message, Origin, State, shard_of
from outbox.verdict import DELIVERED, Outcome, RetryPolicy, Verdict

__all__ = [
    "DELIVERED",
    "SHARDS",
    "DatabaseMissingError",
    "Destination",
    "FileMissingError",
    "InheritedConnectionError",
    "InvalidMessageError",
    "Message",
    "MountedFileError",
    "Origin",
    "OutboxError",
    "OutboxFullError",
    "Outcome",
    "OutcomeUnknownError",
    "RetryPolicy",
    "SchemaOutdatedError",
    "SchemaRefusedError",
    "SequenceError",
    "State",
    "UnsupportedDriverError",
    "UntrustedPlaceError",
    "Verdict",
    "configure_engine",
    "enqueue",
    "open_engine",
    "read_only",
    "reading",
    "shard_of",
    "upgrade",
    "writing",
]
