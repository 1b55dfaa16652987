"""A batch of which the table refuses some rows: all others are mirrored, and each of these says why."""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from outbox.database.driver import is_of_a_row
from outbox.database.encoding import explained
from outbox.mirroring.entity import Entity, Locked
from outbox.mirroring.errors import MirrorRefusedError, StoredRowError
from outbox.mirroring.halving import by_halves

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")


class OvertakenError(MirrorRefusedError):
    """Another relay added the row after this one had looked for it; it is to be merged with, in another try."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Numbered(NamedTuple, Generic[Row]):
    number: int
    """In the batch."""
    row: Row


def mirror_in_halves(
    connection: Connection, entity: Entity[Row, Outcome], batch: Sequence[Row | MirrorRefusedError]
) -> list[Outcome | MirrorRefusedError]:
    """A result each, in order; `OvertakenError` for those to be tried again.

    All that is there already is locked before anything is written, and new rows are added in the order of their keys:
    so two relays wait for each other in turn, whatever the halves.
    """
    results: dict[int, Outcome | MirrorRefusedError] = {}
    rows = [_Numbered(number, one) for number, one in enumerate(batch) if not isinstance(one, MirrorRefusedError)]
    rows.sort(key=lambda one: entity.key(one.row))

    def refuse(one: _Numbered[Row], error: Exception) -> None:
        results[one.number] = refusal(connection, entity, error)

    locked = _locked(connection, entity, _rows(rows))
    if locked is None:
        # A key with text that the database has no characters for cannot even be asked for.
        by_halves(connection, rows, lambda part: entity.ask(connection, _rows(part)), refuse)
        rows = [one for one in rows if one.number not in results]
        locked = entity.lock(connection, _rows(rows))

    def write(part: Sequence[_Numbered[Row]]) -> None:
        found = entity.write(connection, locked, _rows(part))
        results.update(zip((one.number for one in part), found, strict=True))

    def refuse_alone(one: _Numbered[Row], error: Exception) -> None:
        results[one.number] = _refused_alone(connection, entity, locked, one.row, error)

    by_halves(connection, rows, write, refuse_alone)
    return with_refusals(batch, [results[number] for number in sorted(results)])


def with_refusals(
    batch: Sequence[Row | MirrorRefusedError], results: Sequence[Outcome | MirrorRefusedError]
) -> list[Outcome | MirrorRefusedError]:
    """The results of the rows in ``batch``, in order, and between them the refusals that it had from the start."""
    if len(results) == len(batch):
        return list(results)
    of_rows = iter(results)
    return [one if isinstance(one, MirrorRefusedError) else next(of_rows) for one in batch]


def refusal(
    connection: Connection, entity: Entity[Row, Outcome], error: Exception, more: str = ""
) -> MirrorRefusedError:
    if isinstance(error, StoredRowError):
        return error
    return StoredRowError(f"{entity.table} refuses the row: {explained(connection, error)}{more}")


def _rows(numbered: Sequence[_Numbered[Row]]) -> list[Row]:
    return [one.row for one in numbered]


def _locked(connection: Connection, entity: Entity[Row, Outcome], rows: Sequence[Row]) -> Locked[Row] | None:
    try:
        with connection.begin_nested():
            return entity.lock(connection, rows)
    except DBAPIError as error:
        if not is_of_a_row(error):
            raise
        return None


def _refused_alone(
    connection: Connection, entity: Entity[Row, Outcome], locked: Locked[Row], row: Row, error: Exception
) -> MirrorRefusedError:
    if entity.key(row) in locked.rows:
        return refusal(connection, entity, error, entity.salvage(connection, locked, row))
    if entity.is_there(connection, row):
        return OvertakenError(error)
    return refusal(connection, entity, error)
