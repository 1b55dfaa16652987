"""Rows of a table that others write too, in pages: bounded by bytes before they are read, and every row is met.

A column of SQLite holds any type, an id any bytes. The order is that of the ids' bytes, on both databases.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile
from typing import Any

from sqlalchemy import ColumnElement, Connection, Integer, Select, Table, Text, bindparam, literal_column, select

from outbox.database.driver import exact_text, has_octet_length, is_plain_text, plain_rows
from outbox.database.rows import ForKeys

PAGE_BYTES = 4 * 2**20
# The library's own texts have at most 64 KiB.
LARGEST_VALUE = 2**20
SHOWN_BYTES = 64


@dataclass(frozen=True, slots=True, eq=False)
class TooLarge:
    """Stands for a value that was left in the database. Equal to nothing: nobody has compared it."""

    size: int

    def __str__(self) -> str:
        return f"a value of {self.size} bytes"


Value = str | int | float | bytes | TooLarge | None
Values = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a page begins: ``skip`` rows behind the id ``after``, or from the first row on.

    ``after`` is always text that can be given back; rows whose id cannot are counted.
    """

    after: str | None = None
    skip: int = 0


START = Place()


@dataclass(frozen=True, slots=True)
class Page:
    """Whole rows, their size in bytes, and where the next page begins; None behind the last row."""

    rows: list[Values]
    size: int
    following: Place | None


class Pages:
    """The rows of one table, whose first column is the id. Values come as they are, text with `exact_text`."""

    def __init__(self, table: Table) -> None:
        self._table, self._id, self._columns = table, table.c["id"], table.c.keys()
        self._sizes = {words: _sizes(table, *words) for words in _WORDS.values()}
        names = ", ".join(self._columns)
        self._by_id = ForKeys(f"SELECT {names} FROM {table.name} WHERE id {{among}}")  # noqa: S608 - our own names
        self._sizes_by_id = {
            words: ForKeys(f"SELECT id, {' + '.join(sizes)} AS size FROM {table.name} WHERE id {{among}}")  # noqa: S608
            for words, sizes in self._sizes.items()
        }
        self._queries: dict[tuple[str, ...], Select[Any]] = {}

    def page(self, connection: Connection, place: Place, limit: int, where: Sequence[ColumnElement[bool]] = ()) -> Page:
        """At most ``limit`` of the next rows, and about 4 MiB; one row at least, unless there is none."""

        def read(columns: Sequence[str], most: int) -> list[tuple[Any, ...]]:
            query = self._from(place.after, connection.dialect.name, tuple(columns)).where(*where)
            given = {"skip": place.skip, "most": most} | ({} if place.after is None else {"after": place.after})
            return plain_rows(connection, query, given)

        sizes = self._sizes[_words(connection)]
        found = [size for (size,) in read([" + ".join(sizes)], limit)]
        taken = _fitting(found)
        if taken or not found:
            rows: list[Values] = read(self._columns, taken) if taken else []
        else:
            taken = 1
            rows = list(map(self._named, read([*map(_guarded, self._columns, sizes), *sizes], taken)))
        is_last = taken == len(found) < limit
        return Page(rows, sum(found[:taken]), None if is_last else _behind(rows, place))

    def by_id(self, connection: Connection, ids: Collection[str]) -> dict[str, Values]:
        """The rows of ``ids``, which must be plain text. About as many bytes as they have had in pages."""
        sizes = self._sizes_by_id[_words(connection)].run(connection, ids)
        large = [row.id for row in sizes if row.size > LARGEST_VALUE]
        small = set(ids) - set(large)
        found: dict[str, Values] = {}
        for row in exact_text(connection, lambda: self._by_id.run(connection, small)):
            found[row.id] = tuple(row)
        for id_ in large:
            (found[id_],) = self.page(connection, START, 1, [self._id == id_]).rows
        return found

    def _from(self, after: str | None, dialect: str, columns: tuple[str, ...]) -> Select[Any]:
        """Kept, because making it takes as long as reading a hundred rows."""
        which = (dialect, "first" if after is None else "next", *columns)
        if which not in self._queries:
            # An adopted table may have ids of another collation, and both stores are read side by side.
            id_ = self._id.collate("BINARY" if dialect == "sqlite" else "C")
            query = select(*map(_literal, columns)).select_from(self._table).order_by(id_)
            query = query.limit(bindparam("most", type_=Integer())).offset(bindparam("skip", type_=Integer()))
            self._queries[which] = query if after is None else query.where(id_ > bindparam("after", type_=Text()))
        return self._queries[which]

    def _named(self, row: tuple[Any, ...]) -> Values:
        """A guarded row, in which a value left behind is told from a NULL by its size."""
        values, sizes = row[: len(self._columns)], row[len(self._columns) :]
        return tuple(
            TooLarge(size) if size > LARGEST_VALUE else value for value, size in zip(values, sizes, strict=True)
        )


def shown_id(id_: Value) -> str:
    """An id in words; one that is no plain text as SQLite writes it, so that its row can be found by hand."""
    if isinstance(id_, str) and is_plain_text(id_):
        return id_
    if isinstance(id_, str | bytes):
        raw = id_ if isinstance(id_, bytes) else id_.encode(errors="surrogateescape")
        literal = f"x'{raw[:SHOWN_BYTES].hex()}{'…' if len(raw) > SHOWN_BYTES else ''}'"
        return literal if isinstance(id_, bytes) else f"CAST({literal} AS TEXT)"
    return "NULL" if id_ is None else str(id_)


# How the size of a text and that of a column of another type are told.
_WORDS = {
    "postgresql": ("CAST(octet_length({0}) AS bigint)", "0"),
    "sqlite": ("octet_length({0})", "CASE WHEN typeof({0}) IN ('text', 'blob') THEN octet_length({0}) ELSE 0 END"),
    "sqlite before 3.43": (
        "length(CAST({0} AS BLOB))",
        "CASE WHEN typeof({0}) IN ('text', 'blob') THEN length(CAST({0} AS BLOB)) ELSE 0 END",
    ),
}


def _words(connection: Connection) -> tuple[str, str]:
    name = connection.dialect.name
    return _WORDS[name if has_octet_length(connection) else f"{name} before 3.43"]


def _sizes(table: Table, of_text: str, of_integer: str) -> list[str]:
    return [
        of_integer.format(column.name)
        if isinstance(column.type, Integer)
        else f"coalesce({of_text.format(column.name)}, 0)"
        for column in table.c
    ]


def _literal(sql: str) -> ColumnElement[Any]:
    return literal_column(sql)


def _fitting(sizes: Sequence[int]) -> int:
    """How many of these rows, from the first on, fit on a page and have no value that might be too large."""
    small = takewhile(lambda size: size <= LARGEST_VALUE, sizes)
    return sum(total <= PAGE_BYTES for total in accumulate(small))


def _guarded(column: str, size: str) -> str:
    return f"CASE WHEN {size} <= {LARGEST_VALUE} THEN {column} END"


def _behind(rows: Sequence[Values], place: Place) -> Place:
    for passed, row in enumerate(reversed(rows)):
        id_ = row[0]
        if isinstance(id_, str) and is_plain_text(id_):
            return Place(id_, passed)
    return Place(place.after, place.skip + len(rows))
