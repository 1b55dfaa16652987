"""Every change of an invite becomes one message; this is the only place that makes them."""

from collections.abc import Iterable

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from assistant_store.invite import Invite, payload_of
from outbox import Destination, Origin
from outbox.enqueue import enqueue_many

TOPIC = "invite.mirror"


def enqueue_invites(
    session: Session, connection: Connection, invites: Iterable[Invite], origin: Origin = Origin.LIVE
) -> None:
    """Adds a message a row, on the connection that wrote the rows. The version is the row's ``updated_at``."""
    rows = [(invite.id, invite.updated_at, payload_of(invite)) for invite in invites]
    enqueue_many(session, connection, Destination.GATEWAY, topic=TOPIC, rows=rows, origin=origin)
