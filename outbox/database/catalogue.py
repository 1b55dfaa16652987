"""What a database says of its own tables, in the same words on SQLite and on PostgreSQL."""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, text

# SQLite's names ignore case. Only of named tables: one of a module that is not loaded cannot be asked for its columns.
_COLUMNS = {
    "sqlite": """
        SELECT lower(t.name), lower(c.name), c.type, c.pk
        FROM sqlite_master AS t JOIN pragma_table_xinfo(t.name) AS c
        WHERE t.type = 'table' AND lower(t.name) IN (SELECT value FROM json_each(:names))
    """,
    "postgresql": """
        SELECT t.relname, a.attname, CASE WHEN y.typname IN ('int2', 'int4', 'int8') THEN 'INT'
            WHEN y.typcategory = 'S' THEN 'TEXT' ELSE y.typname END,
            coalesce(array_position(CAST(i.indkey AS int2[]), a.attnum) + 1, 0)
        FROM pg_class AS t
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
        JOIN pg_type AS y ON y.oid = a.atttypid
        LEFT JOIN pg_index AS i ON i.indrelid = t.oid AND i.indisprimary
        WHERE t.relnamespace = CAST(current_schema() AS regnamespace) AND t.relkind IN ('r', 'p')
            AND t.relname IN (SELECT json_array_elements_text(CAST(:names AS json)))
    """,
}
# An index that PostgreSQL could not finish, and a trigger that was switched off, are as good as none.
_OBJECTS = {
    "sqlite": """
        SELECT type, lower(name), lower(tbl_name) FROM sqlite_master
        WHERE type IN ('index', 'trigger') AND lower(tbl_name) IN (SELECT value FROM json_each(:names))
    """,
    "postgresql": """
        WITH ours AS (
            SELECT oid, relname FROM pg_class WHERE relnamespace = CAST(current_schema() AS regnamespace)
                AND relname IN (SELECT json_array_elements_text(CAST(:names AS json)))
        )
        SELECT 'index', c.relname, t.relname
        FROM ours AS t JOIN pg_index AS i ON i.indrelid = t.oid AND i.indisvalid
        JOIN pg_class AS c ON c.oid = i.indexrelid
        UNION ALL SELECT 'trigger', g.tgname, t.relname
        FROM ours AS t JOIN pg_trigger AS g ON g.tgrelid = t.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
        UNION ALL SELECT 'sequence', relname, relname
        FROM pg_class WHERE relkind = 'S' AND relnamespace = CAST(current_schema() AS regnamespace)
    """,
}
_REFERENCES = {
    "sqlite": """
        SELECT lower(t.name), lower(f."from"), lower(f."table"), f.on_delete
        FROM sqlite_master AS t JOIN pragma_foreign_key_list(t.name) AS f
        WHERE t.type = 'table' AND lower(t.name) IN (SELECT value FROM json_each(:names))
    """,
    "postgresql": """
        SELECT t.relname, a.attname, o.relname, CASE k.confdeltype WHEN 'c' THEN 'CASCADE' ELSE '' END
        FROM pg_constraint AS k JOIN pg_class AS t ON t.oid = k.conrelid JOIN pg_class AS o ON o.oid = k.confrelid
        JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = ANY (k.conkey)
        WHERE k.contype = 'f' AND t.relnamespace = CAST(current_schema() AS regnamespace)
            AND t.relname IN (SELECT json_array_elements_text(CAST(:names AS json)))
    """,
}


class Catalogue(NamedTuple):
    """Of some tables: each column with ``text``, ``integer`` or what else it is; primary keys; what hangs on them."""

    columns: Mapping[str, Mapping[str, str]]
    keys: Mapping[str, tuple[str, ...]]
    objects: frozenset[tuple[str, str, str]]
    """Kind, name and table of indexes, triggers, and PostgreSQL's sequences."""
    references: frozenset[tuple[str, str, str, str]]
    """Table, column, the table that it refers to, and what becomes of a row whose counterpart is deleted."""


def read_catalogue(connection: Connection, names: Collection[str]) -> Catalogue:
    """Of those tables that exist of ``names``; on PostgreSQL in the schema where new ones are made."""
    columns: dict[str, dict[str, str]] = {}
    keys: dict[str, list[tuple[int, str]]] = {}
    for row in _rows(connection, _COLUMNS, names):
        table, column, kind, position = tuple(row)
        columns.setdefault(table, {})[column] = _kind(kind)
        if position:
            keys.setdefault(table, []).append((position, column))
    return Catalogue(
        columns,
        {table: tuple(column for _, column in sorted(key)) for table, key in keys.items()},
        frozenset(tuple(row) for row in _rows(connection, _OBJECTS, names)),
        frozenset(tuple(row) for row in _rows(connection, _REFERENCES, names)),
    )


def tables_named(connection: Connection, names: Collection[str]) -> set[str]:
    """Which of ``names`` are tables here."""
    return {row[0] for row in _rows(connection, _COLUMNS, names)}


def _rows(connection: Connection, of: Mapping[str, str], names: Collection[str]) -> Sequence[Row[Any]]:
    given = {"names": json.dumps(sorted(names))}
    return connection.execute(text(of[connection.dialect.name]), given).all()


def _kind(declared: str) -> str:
    """As SQLite itself reads a declared type, whatever its exact word."""
    upper = declared.upper()
    if "INT" in upper:
        return "integer"
    return "text" if any(word in upper for word in ("CHAR", "CLOB", "TEXT")) else declared or "untyped"
