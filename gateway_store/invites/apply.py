"""Merging invites into the gateway's table: what they refer to is locked first, then all are written together.

Nobody may write between the merge's read and its write. SQLite: the caller's transaction must hold the write lock from
its start, as every one on an engine of ``outbox.open_engine`` does. PostgreSQL: what is read is locked.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter

from sqlalchemy import Connection

from gateway_store.contacts.contact import contacts_to_refer, known_contacts
from gateway_store.errors import ContactMissingError, MirrorRefusedError
from gateway_store.invites.invite import COLUMNS, TABLE, TYPES, Invite
from gateway_store.invites.merge import at_least, merge
from gateway_store.invites.read import closed_before, invites_to_merge, known_invites
from gateway_store.invites.salvage import close_alone
from outbox.database.rows import ForEachRow, Insert
from outbox.mirroring.entity import Locked

# How new rows are added. PostgreSQL: by id, so that of two that add the same ones one waits for the other, and never
# each for each. SQLite, where nobody else adds any: so that neighbours in an index over random hashes come together.
_ORDER = {"postgresql": attrgetter("id"), "sqlite": attrgetter("token_hash")}
_CHANGES = ", ".join(f"{name} = {{{name}}}" for name in COLUMNS if name not in ("id", "contact_id"))
_INSERT = Insert(TABLE, COLUMNS)
_UPDATE = ForEachRow(
    f"UPDATE {TABLE} AS i SET {_CHANGES} {{from_rows}} WHERE i.id = {{id}}",  # noqa: S608 - names of our own
    TYPES,
)
_MOVE = ForEachRow(
    f"UPDATE {TABLE} AS i SET contact_id = {{contact_id}} {{from_rows}} WHERE i.id = {{id}}",  # noqa: S608
    {"id": "text", "contact_id": "text"},
)


class Mirrored(StrEnum):
    CREATED = "created"
    ADVANCED = "advanced"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class MirrorOutcome:
    """What mirroring did, and the invite as the gateway keeps it now."""

    status: Mirrored
    invite: Invite


Result = MirrorOutcome | MirrorRefusedError


@dataclass(frozen=True, slots=True)
class Invites:
    """The gateway's invites, for the batch. With ``first_created_at_wins`` another ``created_at`` is passed over."""

    first_created_at_wins: bool
    table: str = "the gateway's table"

    def key(self, row: Invite) -> str:
        return row.id

    def lock(self, connection: Connection, rows: Sequence[Invite]) -> Locked[Invite]:
        """Contacts first, as a deletion that cascades locks them, so that the two cannot wait for each other."""
        contacts = contacts_to_refer(connection, {invite.contact_id for invite in rows})
        return Locked(contacts, invites_to_merge(connection, (invite.id for invite in rows)))

    def ask(self, connection: Connection, rows: Sequence[Invite]) -> None:
        known_contacts(connection, [invite.contact_id for invite in rows])
        known_invites(connection, [invite.id for invite in rows])

    def is_there(self, connection: Connection, row: Invite) -> bool:
        return bool(known_invites(connection, [row.id]))

    def write(self, connection: Connection, locked: Locked[Invite], rows: Sequence[Invite]) -> list[Result]:
        stored = {one.id: locked.rows[one.id] for one in rows if one.id in locked.rows}
        if self.first_created_at_wins:
            rows = [_with_first_created_at(one, stored) for one in rows]
        current = dict(stored)
        results = [_merge_into(current, locked.references, one) for one in rows]
        _write(connection, stored, current)
        closed = _close_again(connection, stored, current)
        locked.rows.update(current | closed)
        return [_as_closed(one, closed) for one in results] if closed else results

    def salvage(self, connection: Connection, locked: Locked[Invite], row: Invite) -> str:
        return close_alone(
            connection, locked, _with_first_created_at(row, locked.rows) if self.first_created_at_wins else row
        )


def _with_first_created_at(incoming: Invite, stored: Mapping[str, Invite]) -> Invite:
    known = stored.get(incoming.id)
    return incoming if known is None else incoming._replace(created_at=known.created_at)


def _merge_into(current: dict[str, Invite], contacts: set[str], incoming: Invite) -> Result:
    known = current.get(incoming.id)
    try:
        merged = incoming if known is None else merge(known, incoming)
    except MirrorRefusedError as refusal:
        return refusal
    if known is not None and merged == known:
        return MirrorOutcome(Mirrored.UNCHANGED, merged)
    # A row whose contact is gone already may still be closed; only a new reference must be good.
    if merged.contact_id not in contacts and (known is None or merged.contact_id != known.contact_id):
        return ContactMissingError(incoming.id, merged.contact_id)
    current[incoming.id] = merged
    return MirrorOutcome(Mirrored.CREATED if known is None else Mirrored.ADVANCED, merged)


def _write(connection: Connection, stored: Mapping[str, Invite], current: Mapping[str, Invite]) -> None:
    new = sorted((current[id_] for id_ in current.keys() - stored.keys()), key=_ORDER[connection.dialect.name])
    changed = [invite for id_, invite in current.items() if id_ in stored and invite != stored[id_]]
    # SQLite checks a foreign key that an UPDATE names even where its value stays, and would so refuse to close a row
    # whose contact is gone.
    moved = [invite for invite in changed if invite.contact_id != stored[invite.id].contact_id]
    _INSERT.run(connection, new)
    _UPDATE.run(connection, changed)
    _MOVE.run(connection, [(invite.id, invite.contact_id) for invite in moved])


def _close_again(
    connection: Connection, stored: Mapping[str, Invite], current: Mapping[str, Invite]
) -> dict[str, Invite]:
    """New rows that were deleted before, as closed as they were then. Looked for behind the insert: from there on
    nobody can add and delete such a row unseen."""
    added = [id_ for id_ in current if id_ not in stored]
    closed = {id_: at_least(current[id_], *was) for id_, was in closed_before(connection, added).items()}
    _UPDATE.run(connection, list(closed.values()))
    return closed


def _as_closed(result: Result, closed: Mapping[str, Invite]) -> Result:
    if isinstance(result, MirrorRefusedError) or result.invite.id not in closed:
        return result
    return replace(result, invite=closed[result.invite.id])
