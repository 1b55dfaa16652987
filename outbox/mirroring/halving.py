"""Finding the rows that a database refuses, by halves: one among n costs about 2 log n savepoints, and not n."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from outbox.database.driver import is_of_a_row
from outbox.mirroring.errors import StoredRowError

T = TypeVar("T")

REFUSALS = (DBAPIError, OverflowError, StoredRowError)


def is_of_one(error: Exception) -> bool:
    """Whether one of `REFUSALS` is about a row, and not about the database."""
    return isinstance(error, StoredRowError) or is_of_a_row(error)


def by_halves(
    connection: Connection,
    rows: Sequence[T],
    together: Callable[[Sequence[T]], None],
    alone: Callable[[T, Exception], None],
) -> None:
    """Does ``together`` to all rows, from the first to the last, in parts as large as they can be.

    What was done to a part that holds a refused row is undone, and its halves are tried. A row that is refused by
    itself, and why, goes to ``alone``.
    """
    middle = len(rows) // 2
    for part in filter(None, (rows[:middle], rows[middle:])):
        try:
            with connection.begin_nested():
                together(part)
        except REFUSALS as error:
            if not is_of_one(error):
                raise
            if len(part) == 1:
                alone(part[0], error)
            else:
                by_halves(connection, part, together, alone)
