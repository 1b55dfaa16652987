"""Enqueueing a row's current state again, unless a message with just that state waits already."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from outbox import statements
from outbox.enqueue import enqueue_many
from outbox.message import Destination, Origin, State

CurrentState = tuple[str, int, str]
"""Key, version and payload of a row as it is now."""


@dataclass(frozen=True, slots=True)
class Again:
    """The keys enqueued, and by key the ``seq`` of a message that holds the same state and waited already."""

    enqueued: list[str] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)


def enqueue_again(
    session: Session, connection: Connection, destination: Destination, *, topic: str, rows: Sequence[CurrentState]
) -> Again:
    """`enqueue_many` as origin ``replay``, of the rows whose current state does not wait already.

    An older version that waits stops nothing. What waits for its next try is due at once: whoever replays it expects
    that what it was refused for is mended.
    """
    known = statements.waiting_states(connection, destination, topic, rows)
    missing = [row for row in rows if row[0] not in known]
    enqueue_many(session, connection, destination, topic=topic, rows=missing, origin=Origin.REPLAY)
    retrying = [seq for seq, state in known.values() if state == State.RETRYING]
    statements.bring_forward(connection, retrying)
    return Again([row[0] for row in missing], {key: seq for key, (seq, _) in known.items()})
