"""Mirroring: merging invites into the gateway's table, in the caller's transaction or in one of its own.

Nobody may write between the merge's read and its write. SQLite: the caller's transaction must hold the write lock from
its start, as every one on an engine of ``outbox.open_engine`` does. PostgreSQL: what is read is locked.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DatabaseError, DataError, DBAPIError, IntegrityError, InterfaceError
from sqlalchemy.orm import Session

from gateway_store.contacts import contacts_to_refer
from gateway_store.errors import ContactMissingError, MirrorRefusedError, StoredRowError
from gateway_store.identity import StoreFacts, count_batch
from gateway_store.invite import COLUMNS, INVITES, TABLE, TYPES, Invite
from gateway_store.merge import at_least, merge
from gateway_store.payload import InvitePayload, parse_payload
from gateway_store.read import closed_before, invites_to_merge
from outbox.engine import writing
from outbox.enqueue import connection_to_write
from outbox.redact import reason_of
from outbox.rows import ForEachRow, Insert

Payload = str | Mapping[str, Any] | InvitePayload
Parsed = Invite | MirrorRefusedError

# Bounds what one transaction holds, and how long it holds it.
MAX_BATCH = 1_000
TRIES = 3
# For a connection that mirrors: tokens and codes are random, and so are the pages of their indexes that it changes.
CACHE_MIB = 12
# PostgreSQL's codes for what a trigger raises, and for text too long for an index: the driver's classes hide them.
_RAISED, _TOO_LONG = "P0", "54000"

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


def mirror_create(session: Session, invite: Mapping[str, Any] | InvitePayload) -> MirrorOutcome:
    """Merges one invite into the mirror; repeating it is harmless, and an older state never undoes a newer one.

    Raises a `MirrorRefusedError` where it refuses; the session's transaction is then as before the call.
    """
    (result,) = mirror_batch(connection_to_write(session, INVITES), [invite])
    if isinstance(result, MirrorRefusedError):
        raise result
    return result


def mirror_and_commit(
    engine: Engine,
    payloads: Sequence[Payload],
    *,
    first_created_at_wins: bool = False,
    admit: Callable[[StoreFacts], None] = lambda _: None,
    prove: Callable[[], None] = lambda: None,
) -> list[MirrorOutcome | MirrorRefusedError]:
    """`mirror_batch`, of at most 1,000, in a transaction of its own: durable when it returns.

    ``admit`` is told first whose store it is that is about to be written; ``prove`` is called once the rows are locked
    and again before COMMIT. What either raises rolls everything back.
    Raises what SQLAlchemy raises where the database cannot work, and `outbox.DatabaseMissingError`; a COMMIT that
    raises may still have succeeded.
    """
    parsed = _parsed_batch(payloads)
    try:
        # Without a savepoint, for which SQLite keeps a copy of every page that the batch changes.
        with writing(engine) as connection:
            admit(count_batch(connection))
            results = _mirror(connection, parsed, first_created_at_wins, prove)
            prove()
        return results
    except (DBAPIError, OverflowError) as error:
        if not _is_of_a_row(error):
            raise
    with writing(engine) as connection:
        admit(count_batch(connection))
        results = _mirror_one_by_one(connection, parsed, first_created_at_wins, prove)
        prove()
    return results


def mirror_batch(
    connection: Connection, payloads: Sequence[Payload], *, first_created_at_wins: bool = False
) -> list[MirrorOutcome | MirrorRefusedError]:
    """`mirror_create` for many in one transaction; each gets its own outcome or refusal, in the order given.

    One that is refused fails alone. The rest is applied when the caller commits, and only then. At most 1,000 at once.
    With ``first_created_at_wins`` another ``created_at`` is passed over instead of refused, as the real gateway does.
    """
    parsed = _parsed_batch(payloads)
    try:
        with connection.begin_nested():
            return _mirror(connection, parsed, first_created_at_wins)
    except (DBAPIError, OverflowError) as error:
        if not _is_of_a_row(error):
            raise
        # The table itself refuses one of them, by a constraint that is not ours to know: find it, one by one.
        return _mirror_one_by_one(connection, parsed, first_created_at_wins)


def _mirror_one_by_one(
    connection: Connection,
    parsed: Sequence[Parsed],
    first_created_at_wins: bool,
    prove: Callable[[], None] = lambda: None,
) -> list[MirrorOutcome | MirrorRefusedError]:
    """By id, and behind the locks of all: in the order of `_mirror`, so that two never wait for each other."""
    ids = {number: one.id for number, one in enumerate(parsed) if isinstance(one, Invite)}
    contacts_to_refer(connection, {one.contact_id for one in parsed if isinstance(one, Invite)})
    invites_to_merge(connection, ids.values())
    prove()
    results = {
        number: _mirror_alone(connection, parsed[number], first_created_at_wins)
        for number in sorted(range(len(parsed)), key=lambda number: ids.get(number, ""))
    }
    return [results[number] for number in range(len(parsed))]


def _mirror_alone(
    connection: Connection, parsed: Parsed, first_created_at_wins: bool
) -> MirrorOutcome | MirrorRefusedError:
    for _ in range(TRIES):
        try:
            with connection.begin_nested():
                return _mirror(connection, [parsed], first_created_at_wins)[0]
        except (DBAPIError, OverflowError) as error:
            if not _is_of_a_row(error):
                raise
            # Another relay may have added the row since it was looked for; then it is there to be merged with.
            reason = reason_of(error)
    return StoredRowError(f"the gateway's table refuses the row: {reason}")


def _is_of_a_row(error: Exception) -> bool:
    """Whether the table refuses a row, and not the database all of them."""
    if isinstance(error, IntegrityError | DataError | InterfaceError | OverflowError):
        return True
    code: str = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    # A code that the driver has no class for is one of a trigger's own.
    return code.startswith((_RAISED, _TOO_LONG)) or (bool(code) and type(error) is DatabaseError)


def _mirror(
    connection: Connection,
    parsed: Sequence[Parsed],
    first_created_at_wins: bool,
    prove: Callable[[], None] = lambda: None,
) -> list[MirrorOutcome | MirrorRefusedError]:
    invites = [one for one in parsed if isinstance(one, Invite)]
    # Contacts first, as a deletion that cascades locks them, so that the two cannot wait for each other.
    contacts = contacts_to_refer(connection, {invite.contact_id for invite in invites})
    stored = invites_to_merge(connection, (invite.id for invite in invites))
    prove()
    if first_created_at_wins:
        parsed = [_with_first_created_at(one, stored) if isinstance(one, Invite) else one for one in parsed]
    current: dict[str, Invite] = dict(stored)
    results = [one if isinstance(one, MirrorRefusedError) else _merge_into(current, contacts, one) for one in parsed]
    _write(connection, stored, current)
    closed = _close_again(connection, stored, current)
    return [_as_closed(one, closed) for one in results] if closed else results


def _with_first_created_at(incoming: Invite, stored: Mapping[str, Invite]) -> Invite:
    known = stored.get(incoming.id)
    return incoming if known is None else incoming._replace(created_at=known.created_at)


def _parsed_batch(payloads: Sequence[Payload]) -> list[Parsed]:
    if len(payloads) > MAX_BATCH:
        raise ValueError(f"a batch may hold {MAX_BATCH} invites, got {len(payloads)}")
    return [_parsed(payload) for payload in payloads]


def _parsed(payload: Payload) -> Parsed:
    try:
        return parse_payload(payload)
    except MirrorRefusedError as refusal:
        return refusal


def _merge_into(current: dict[str, Invite], contacts: set[str], incoming: Invite) -> MirrorOutcome | MirrorRefusedError:
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


def _as_closed(
    result: MirrorOutcome | MirrorRefusedError, closed: Mapping[str, Invite]
) -> MirrorOutcome | MirrorRefusedError:
    if isinstance(result, MirrorRefusedError) or result.invite.id not in closed:
        return result
    return replace(result, invite=closed[result.invite.id])
