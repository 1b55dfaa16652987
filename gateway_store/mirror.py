"""Mirroring: merging invites into the gateway's table, in the caller's transaction or in one of its own.

One that is refused, for whatever reason, fails alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from gateway_store.apply import Mirrored, MirrorOutcome, Parsed, Result, apply, lock
from gateway_store.errors import MirrorRefusedError
from gateway_store.halving import REFUSALS, is_of_one
from gateway_store.identity import StoreFacts, count_batch
from gateway_store.invite import INVITES
from gateway_store.payload import InvitePayload, parse_payload
from gateway_store.refused import OvertakenError, mirror_in_halves
from outbox.engine import writing
from outbox.enqueue import connection_to_write

__all__ = ["MirrorOutcome", "Mirrored", "mirror_and_commit", "mirror_batch", "mirror_create"]

Payload = str | Mapping[str, Any] | InvitePayload

# Bounds what one transaction holds, and how long it holds it.
MAX_BATCH = 1_000
TRIES = 3
# For a connection that mirrors: tokens and codes are random, and so are the pages of their indexes that it changes.
CACHE_MIB = 12


def mirror_create(session: Session, invite: Mapping[str, Any] | InvitePayload) -> MirrorOutcome:
    """Merges one invite into the mirror; repeating it is harmless, and an older state never undoes a newer one.

    Raises a `MirrorRefusedError` where it refuses; the session's transaction is then as before the call, save that an
    invite which the table refuses to change as a whole may have been closed.
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

    def transaction(work: Callable[[Connection], list[Result]]) -> list[Result]:
        with writing(engine) as connection:
            admit(count_batch(connection))
            results = work(connection)
            prove()
        return results

    def at_once(connection: Connection) -> list[Result]:
        locked = lock(connection, parsed)
        prove()
        return apply(connection, locked, parsed, first_created_at_wins)

    try:
        # Without a savepoint, for which SQLite keeps a copy of every page that the batch changes.
        return transaction(at_once)
    except REFUSALS as error:
        if not is_of_one(error):
            raise
    return _until_none_is_overtaken(
        parsed, lambda some: transaction(lambda connection: mirror_in_halves(connection, some, first_created_at_wins))
    )


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
            return apply(connection, lock(connection, parsed), parsed, first_created_at_wins)
    except REFUSALS as error:
        if not is_of_one(error):
            raise
    # The table itself refuses one of them, by a constraint that is not ours to know: find it.
    return _until_none_is_overtaken(parsed, lambda some: mirror_in_halves(connection, some, first_created_at_wins))


def _until_none_is_overtaken(
    parsed: Sequence[Parsed], mirrored: Callable[[Sequence[Parsed]], list[Result]]
) -> list[Result]:
    """Row by row, until each has its result: what another relay added meanwhile is there to be merged with by then.

    Afterwards, since a lock on it, taken in the middle, could be one that its owner has while he waits for ours.
    """
    results: dict[int, Result] = {}
    left = list(range(len(parsed)))
    for _ in range(TRIES):
        results |= zip(left, mirrored([parsed[number] for number in left]), strict=True)
        overtaken = {number: one for number, one in results.items() if isinstance(one, OvertakenError)}
        if not overtaken:
            return [results[number] for number in range(len(parsed))]
        left = list(overtaken)
    # Nothing is wrong with the row: no refusal, but for the relay to try again.
    raise next(iter(overtaken.values())).error


def _parsed_batch(payloads: Sequence[Payload]) -> list[Parsed]:
    if len(payloads) > MAX_BATCH:
        raise ValueError(f"a batch may hold {MAX_BATCH} invites, got {len(payloads)}")
    return [_parsed(payload) for payload in payloads]


def _parsed(payload: Payload) -> Parsed:
    try:
        return parse_payload(payload)
    except MirrorRefusedError as refusal:
        return refusal
