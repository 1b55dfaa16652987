"""Mirroring a batch in one transaction: all rows together, and where the table refuses one, the others without it."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

from sqlalchemy import Connection

from outbox.mirroring.entity import Entity
from outbox.mirroring.errors import MirrorRefusedError
from outbox.mirroring.halving import REFUSALS, is_of_one
from outbox.mirroring.refused import OvertakenError, mirror_in_halves, with_refusals

Payload = TypeVar("Payload")
Row = TypeVar("Row")
Outcome = TypeVar("Outcome")

TRIES = 3


def parsed(payloads: Sequence[Payload], parse: Callable[[Payload], Row]) -> list[Row | MirrorRefusedError]:
    """What ``parse`` makes of each payload, or the refusal that it raises."""
    found: list[Row | MirrorRefusedError] = []
    for payload in payloads:
        try:
            found.append(parse(payload))
        except MirrorRefusedError as refusal:
            found.append(refusal)
    return found


def mirror(
    connection: Connection, entity: Entity[Row, Outcome], batch: Sequence[Row | MirrorRefusedError]
) -> list[Outcome | MirrorRefusedError]:
    """Within the caller's transaction: a result each, in order. One that is refused fails alone."""
    try:
        with connection.begin_nested():
            return _together(connection, entity, batch, lambda: None)
    except REFUSALS as error:
        if not is_of_one(error):
            raise
    # The table itself refuses one of them, by a constraint that is not ours to know: find it.
    return _until_none_is_overtaken(batch, lambda some: mirror_in_halves(connection, entity, some))


def mirror_and_commit(
    begin: Callable[[], AbstractContextManager[Connection]],
    entity: Entity[Row, Outcome],
    batch: Sequence[Row | MirrorRefusedError],
    prove: Callable[[], None],
) -> list[Outcome | MirrorRefusedError]:
    """As `mirror`, in a transaction that ``begin`` opens and commits; ``prove`` is called once the rows are locked."""
    try:
        # Without a savepoint, for which SQLite keeps a copy of every page that the batch changes.
        with begin() as connection:
            return _together(connection, entity, batch, prove)
    except REFUSALS as error:
        if not is_of_one(error):
            raise

    def in_halves(some: Sequence[Row | MirrorRefusedError]) -> list[Outcome | MirrorRefusedError]:
        with begin() as connection:
            return mirror_in_halves(connection, entity, some)

    return _until_none_is_overtaken(batch, in_halves)


def _together(
    connection: Connection,
    entity: Entity[Row, Outcome],
    batch: Sequence[Row | MirrorRefusedError],
    prove: Callable[[], None],
) -> list[Outcome | MirrorRefusedError]:
    rows = [one for one in batch if not isinstance(one, MirrorRefusedError)]
    locked = entity.lock(connection, rows)
    prove()
    return with_refusals(batch, entity.write(connection, locked, rows))


def _until_none_is_overtaken(
    batch: Sequence[Row | MirrorRefusedError],
    mirrored: Callable[[Sequence[Row | MirrorRefusedError]], list[Outcome | MirrorRefusedError]],
) -> list[Outcome | MirrorRefusedError]:
    """Row by row, until each has its result: what another relay added meanwhile is there to be merged with by then.

    Afterwards, since a lock on it, taken in the middle, could be one that its owner has while he waits for ours.
    """
    results: dict[int, Outcome | MirrorRefusedError] = {}
    left = list(range(len(batch)))
    for _ in range(TRIES):
        results |= zip(left, mirrored([batch[number] for number in left]), strict=True)
        overtaken = {number: one for number, one in results.items() if isinstance(one, OvertakenError)}
        if not overtaken:
            return [results[number] for number in range(len(batch))]
        left = list(overtaken)
    # Nothing is wrong with the row: no refusal, but for the relay to try again.
    raise next(iter(overtaken.values())).error
