"""One statement for many rows, in the fastest way that each database has."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from outbox.database.driver import copy_rows, has_octet_length, in_old_words, is_plain_text, takes_copy

# How JSON writes a NUL and a surrogate, be it a lone one or half a character.
_MAY_BE_NO_TEXT = ("\\u0000", "\\ud")

_LONE = re.compile(r"[\ud800-\udfff]")


class Insert:
    """Adds rows: on SQLite one at a time, on PostgreSQL several by COPY where it can be used."""

    def __init__(self, table: str, columns: Iterable[str]) -> None:
        self._table = table
        names = tuple(columns)
        self._insert = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({{places}})"  # noqa: S608 - our own names
        self._sqlite = self._insert.format(places=", ".join("?" for _ in names))
        self._postgresql = self._insert.format(places=", ".join("%s" for _ in names))
        self._copy = f"COPY {table} ({', '.join(names)}) FROM STDIN"

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """In the caller's transaction."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            # The driver binds a named tuple's values more slowly than a plain one's.
            connection.exec_driver_sql(self._sqlite, list(map(tuple, rows)))
        elif len(rows) > 1 and takes_copy(connection, self._table):
            copy_rows(connection, self._copy, rows)
        else:
            connection.exec_driver_sql(self._postgresql, rows[0] if len(rows) == 1 else list(rows))


class ForEachRow:
    """A statement run for each of many rows; ``{name}`` in it stands for a row's value of that name.

    SQLite runs it once a row, with the values bound. PostgreSQL runs it once, joined with all rows, which are one JSON
    parameter. For that an INSERT that may meet a row says ``{values}`` where its values belong, an UPDATE
    ``{from_rows}``, and a DELETE ``{using_rows}``. ``columns`` names a row's values, in order, with their types,
    ``text`` or ``bigint``.
    """

    def __init__(self, sql: str, columns: Mapping[str, str]) -> None:
        self._names = tuple(columns)
        places = {name: f"?{number}" for number, name in enumerate(columns, 1)}
        self._one_row = sql.format(
            values=f"VALUES ({', '.join(places.values())})", from_rows="", using_rows="", **places
        )
        self._one_row_of_old = in_old_words(self._one_row)
        rows = f"json_to_recordset(%s) AS r ({', '.join(f'{name} {kind}' for name, kind in columns.items())})"
        joined = {name: f"r.{name}" for name in columns}
        self._all_rows = sql.format(
            values=f"SELECT {', '.join(joined.values())} FROM {rows}",  # noqa: S608 - names given in our own code
            from_rows=f"FROM {rows}",
            using_rows=f"USING {rows}",
            **joined,
        )

    def run(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """In the caller's transaction. On PostgreSQL no two rows may change the same row of the table."""
        if not rows:
            return
        if connection.dialect.name == "sqlite":
            one_row = self._one_row if has_octet_length(connection) else self._one_row_of_old
            connection.exec_driver_sql(one_row, list(rows))
        else:
            objects = [dict(zip(self._names, row, strict=True)) for row in rows]
            connection.exec_driver_sql(self._all_rows, (_json(objects),))


class ForKeys:
    """A query for the rows of which a column is among many keys: ``WHERE topic = {given} AND id {among}``.

    Other values, ``{given}``, stand before the keys. ``{lock}`` at its end locks the rows until the transaction ends;
    SQLite has locked the whole database before. A key that JSON or the database cannot carry finds nothing.
    """

    def __init__(self, sql: str, lock: str = "FOR UPDATE") -> None:
        self._sqlite = sql.format(given="?", among="IN (SELECT value FROM json_each(?))", lock="")
        # The driver takes longer to write an array than PostgreSQL to read JSON.
        among = "= ANY(ARRAY(SELECT json_array_elements_text(%s){cast}))"
        self._texts = sql.format(given="%s", among=among.format(cast=""), lock=lock)
        self._numbers = sql.format(given="%s", among=among.format(cast="::bigint"), lock=lock)

    def run(self, connection: Connection, keys: Iterable[str] | Iterable[int], *given: str | int) -> Sequence[Row[Any]]:
        wanted: list[Any] = sorted(set(keys))
        among = json.dumps(wanted)
        if any(escaped in among for escaped in _MAY_BE_NO_TEXT):
            # SQLite would end the key at its NUL and so find another's rows; PostgreSQL refuses the whole list.
            wanted = [key for key in wanted if is_plain_text(key)]
            among = json.dumps(wanted)
        if not wanted:
            return []
        if connection.dialect.name == "sqlite":
            return connection.exec_driver_sql(self._sqlite, (*given, among)).all()
        sql = self._numbers if isinstance(wanted[0], int) else self._texts
        return connection.exec_driver_sql(sql, (*given, _json(wanted))).all()


def _json(value: object) -> str:
    """For PostgreSQL. A server that is not UTF8 takes no escape of a character, even where it keeps the character."""
    plain = json.dumps(value, ensure_ascii=False)
    # No driver sends a lone surrogate; escaped, it is the server that refuses it, in words.
    return plain if plain.isascii() or not _LONE.search(plain) else json.dumps(value)
