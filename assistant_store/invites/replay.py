"""Enqueueing current rows again, to repair a mirror that drifted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from sqlalchemy import ColumnElement, Connection, func, select, text, update
from sqlalchemy.orm import Session

from assistant_store.errors import StoredInviteError
from assistant_store.invites.enqueue import TOPIC, state_of
from assistant_store.invites.invite import COLUMNS, INVITES, Invite, checked_row
from assistant_store.invites.read import PAGES
from outbox import Destination
from outbox.clock import now_ms
from outbox.enqueue import connection_to_write
from outbox.enqueue_again import enqueue_again
from outbox.message import LARGEST_INTEGER
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
    """A page of selected rows, and the next page's place.

    ``ids`` were enqueued; of those ``waiting`` the current state waited already, in the message ``seq``; those
    ``overtaken`` were changed, and so enqueued, by somebody else before they could be touched. Of the ``odd`` ones no
    message can be made: an id, as it can be shown, with what is wrong.
    """

    ids: list[str] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    overtaken: list[str] = field(default_factory=list)
    odd: list[tuple[str, str]] = field(default_factory=list)
    rows: int = 0
    following: Place | None = None


def replay_page(
    session: Session, selection: Selection, *, place: Place, limit: int, above: Mapping[str, int] | None = None
) -> Replayable:
    """Enqueues the current state of the next ``limit`` selected rows, by id, or of fewer where they are large.

    Rows are read and enqueued in one transaction, on the connection that writes. Should an older state slip in all the
    same, its version is lower and it gives way. A row whose current state waits already is not enqueued again.

    With ``above`` each row is touched first: its ``updated_at`` is raised, above the instant given for its id, so that
    the row wins where the other side has changed it at the same time.
    """
    connection = connection_to_write(session, INVITES)
    found = PAGES.page(connection, place, limit, selection.conditions())
    overtaken: list[str] = []
    odd: list[tuple[str, str]] = []
    invites: list[Invite] = []
    for row in found.rows:
        try:
            invite = _readable(row)
            if above is not None:
                touched = _touch(connection, invite, above.get(invite.id, 0))
                if touched is None:
                    overtaken.append(invite.id)
                    continue
                invite = touched
            invites.append(invite)
        except StoredInviteError as error:
            odd.append((shown_id(row[0]), str(error)))
    again = enqueue_again(
        session, connection, Destination.GATEWAY, topic=TOPIC, rows=[state_of(invite) for invite in invites]
    )
    return Replayable(again.enqueued, again.waiting, overtaken, odd, len(found.rows), found.following)


def current_state(row: Values) -> tuple[str, int, str] | None:
    """Key, version and payload of the message that a replay would make of the row; None where it can make none."""
    try:
        return state_of(_readable(row))
    except StoredInviteError:
        return None


def touched_row(row: Values, above: int) -> Values | None:
    """The row as touching it would leave it; None where that cannot be."""
    try:
        updated_at = _raised(_readable(row), above)
    except StoredInviteError:
        return None
    place = COLUMNS.index("updated_at")
    return (*row[:place], updated_at, *row[place + 1 :])


def _touch(connection: Connection, invite: Invite, above: int) -> Invite | None:
    """Raises ``updated_at`` if it is still what was read; None if it is not."""
    updated_at = max(now_ms(), _raised(invite, above))
    changed = connection.execute(
        update(INVITES)
        .where(_C.id == invite.id, _C.updated_at == invite.updated_at)
        .values({_C.updated_at: updated_at})
    )
    return replace(invite, updated_at=updated_at) if changed.rowcount else None


def _raised(invite: Invite, above: int) -> int:
    updated_at = max(invite.updated_at, above) + 1
    if updated_at > LARGEST_INTEGER:
        raise StoredInviteError(f"invite {invite.id} cannot be touched: no instant is later; correct that row by hand")
    return updated_at


def _readable(row: Values) -> Invite:
    return checked_row(_with_readable_text(row))


def _with_readable_text(row: Values) -> Values:
    """As every other reader has it: U+FFFD for what is no UTF-8, except in the id, which would be another's."""
    return row[:1] + tuple(
        value.encode(errors="surrogateescape").decode(errors="replace")
        if isinstance(value, str) and not value.isascii()
        else value
        for value in row[1:]
    )
