"""Enqueueing current rows again, to repair a mirror that drifted."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, func, select, text
from sqlalchemy.orm import Session

from assistant_store.errors import StoredInviteError
from assistant_store.invite import INVITES, Invite, checked_row
from assistant_store.mirror import TOPIC, enqueue_invites
from assistant_store.read import PAGES
from outbox import Destination, Origin
from outbox.enqueue import connection_to_write
from outbox.pages import Place, Values, shown_id

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
                        f"SELECT key FROM outbox_messages WHERE destination = '{Destination.GATEWAY}'"  # noqa: S608
                        f" AND topic = '{TOPIC}' AND state = 'dead'"
                        " AND state IN ('pending', 'retrying', 'dead')"
                    )
                )
            )
        return found


def count_selected(session: Session, selection: Selection) -> int:
    connection = connection_to_write(session, INVITES)
    return connection.execute(select(func.count()).select_from(INVITES).where(*selection.conditions())).scalar_one()


@dataclass(frozen=True, slots=True)
class Replayable:
    """A page of selected rows: the ids enqueued, the rows of which no message can be made, and the next page's place.

    ``odd`` pairs an id, as it can be shown, with what is wrong.
    """

    ids: list[str] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
    following: Place | None = None

    @property
    def rows(self) -> int:
        return len(self.ids) + len(self.odd)


def replay_page(session: Session, selection: Selection, *, place: Place, limit: int) -> Replayable:
    """Enqueues the current state of the next ``limit`` selected rows, by id, or of fewer where they are large.

    Rows are read and enqueued in one transaction, on the connection that writes. Should an older state slip in all the
    same, its version is lower and it gives way.
    """
    connection = connection_to_write(session, INVITES)
    found = PAGES.page(connection, place, limit, selection.conditions())
    page = Replayable(following=found.following)
    invites: list[Invite] = []
    for row in found.rows:
        try:
            invites.append(checked_row(_with_readable_text(row)))
        except StoredInviteError as error:
            page.odd.append((shown_id(row[0]), str(error)))
    enqueue_invites(session, connection, invites, Origin.REPLAY)
    page.ids.extend(invite.id for invite in invites)
    return page


def _with_readable_text(row: Values) -> Values:
    """As every other reader has it: U+FFFD for what is no UTF-8, except in the id, which would be another's."""
    return row[:1] + tuple(
        value.encode(errors="surrogateescape").decode(errors="replace")
        if isinstance(value, str) and not value.isascii()
        else value
        for value in row[1:]
    )
