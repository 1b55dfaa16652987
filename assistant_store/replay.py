"""Enqueueing current rows again, to repair a mirror that drifted."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from assistant_store.invite import INVITES, invite_of
from assistant_store.mirror import TOPIC, enqueue_invites
from outbox import Origin
from outbox.enqueue import connection_to_write

_C = INVITES.c


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows; what is given must all hold. Instants are epoch ms, ``until`` excluded."""

    since: int | None = None
    until: int | None = None
    ids: Sequence[str] | None = None
    only_dead: bool = False
    """Only invites of which a message is dead."""

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = []
        if self.since is not None:
            found.append(_C.updated_at >= self.since)
        if self.until is not None:
            found.append(_C.updated_at < self.until)
        if self.ids is not None:
            found.append(_C.id.in_(self.ids))
        if self.only_dead:
            found.append(
                _C.id.in_(
                    text(
                        f"SELECT key FROM outbox_messages WHERE topic = '{TOPIC}' AND state = 'dead'"  # noqa: S608
                        " AND state IN ('pending', 'retrying', 'dead')"
                    )
                )
            )
        return found


def count_selected(session: Session, selection: Selection) -> int:
    connection = connection_to_write(session, INVITES)
    return connection.execute(select(func.count()).select_from(INVITES).where(*selection.conditions())).scalar_one()


def replay_page(session: Session, selection: Selection, *, after: str, limit: int) -> list[str]:
    """Enqueues the current state of the next ``limit`` selected rows, by id; returns their ids.

    Rows are read and enqueued in one transaction, on the connection that writes. Should an older state slip in all the
    same, its version is lower and it gives way.
    """
    connection = connection_to_write(session, INVITES)
    query = select(INVITES).where(*selection.conditions(), _C.id > after).order_by(_C.id).limit(limit)
    invites = [invite_of(row) for row in connection.execute(query)]
    enqueue_invites(session, connection, invites, Origin.REPLAY)
    return [invite.id for invite in invites]
