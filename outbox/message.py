"""The message and the words about it that are stored; the strings here are the contract of ``outbox_messages``."""

from enum import StrEnum
from typing import NamedTuple
from zlib import crc32

SHARDS = 64
# Every row of an invite that the library wrote fits; a gateway's socket takes no longer line. A message with a larger
# payload, of a row that was adopted, is dead without having been read: refusing to enqueue it would leave its invite
# open on both sides.
MAX_DELIVERED_BYTES = 4 * 2**20
# The largest that the table takes; a larger one was written past its rules, and is dropped when its message is settled.
MAX_KEPT_BYTES = 16 * 2**20
LOWEST_SEQ, HIGHEST_SEQ = -(2**63), 2**63 - 1
NEVER_DELIVERED = "never delivered: "
"""Begins the reason of a message that was refused without asking the gateway, because it is none of its key."""
DROPPED = "dropped by "
"""Begins what stands as the reason of a dead letter that a person dropped: superseded, and kept for ever."""
LARGEST_INTEGER = 2**53 - 1
LARGEST_COUNT = 2**31 - 1


class Destination(StrEnum):
    """Whose route may read a message; two outboxes can live in one database and never see each other."""

    GATEWAY = "gateway"
    ASSISTANT = "assistant"


class State(StrEnum):
    PENDING = "pending"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    SUPERSEDED = "superseded"
    DEAD = "dead"


class Origin(StrEnum):
    """Where a message comes from. ``live`` sorts, and is delivered, before ``replay``."""

    LIVE = "live"
    REPLAY = "replay"


class Message(NamedTuple):
    """One row to deliver. ``payload`` is JSON text: the whole row after the change, never a delta."""

    seq: int
    topic: str
    key: str
    version: int
    shard: int
    payload: str
    origin: str
    enqueued_at: int
    state: str
    attempts: int
    last_error: str | None
    newer_dead_seq: int | None
    """A dead message of the same key with a higher version: delivering this one would mirror an outdated state."""
    available_at: int | None = None
    refused_for_ms: int = 0
    """Time spent being refused, so far."""
    refused_at: int | None = None
    """The last refusal; None before the first."""
    crashes: int = 0
    """Relays in a row that stopped while delivering it."""
    unreadable: str | None = None
    """Why its payload was left in the database; it is then to be refused."""

    def __repr__(self) -> str:
        return f"Message(seq={self.seq}, topic={self.topic!r}, key={self.key!r}, version={self.version})"


def shard_of(key: str) -> int:
    """The shard of a key, fixed at enqueue. Every writer of the table must compute the same."""
    return crc32(key.encode()) % SHARDS
