"""Every change of an invite becomes one message; this is the only place that makes them."""

from collections.abc import Iterable

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from assistant_store.invites.invite import Invite, payload_of
from outbox import Destination, Origin
from outbox.enqueue import enqueue_many
from outbox.message import LARGEST_INTEGER

TOPIC = "invite.mirror"


def enqueue_invites(
    session: Session, connection: Connection, invites: Iterable[Invite], origin: Origin = Origin.LIVE
) -> None:
    """Adds a message a row, on the connection that wrote the rows. The version is the row's ``updated_at``."""
    rows = map(state_of, invites)
    enqueue_many(session, connection, Destination.GATEWAY, topic=TOPIC, rows=rows, origin=origin)


def state_of(invite: Invite) -> tuple[str, int, str]:
    """Key, version and payload of the message that holds the invite as it is."""
    return invite.id, _version(invite.updated_at), payload_of(invite)


def _version(updated_at: int) -> int:
    """An invite whose time was set beyond any instant can be revoked all the same: of equal versions the later counts.

    A text, which SQLite lets anybody write there, is left for `enqueue_many` to refuse.
    """
    return min(updated_at, LARGEST_INTEGER) if isinstance(updated_at, int) else updated_at
