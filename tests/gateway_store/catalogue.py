"""A database seen from outside, through the plain driver of its kind: every definition in it and every row.

Nothing here may be called while an engine has an SQLite file open: two SQLite libraries in one process drop each
other's locks.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import psycopg
from sqlalchemy import inspect, make_url

from outbox import open_engine, reading

Content = dict[str, list[tuple[Any, ...]]]

_DEFINITIONS = {
    "sqlite": "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name",
    "postgresql": """
        SELECT 'relation', relname::text, relkind::text || relpersistence::text
        FROM pg_class WHERE relnamespace = current_schema()::regnamespace
        UNION ALL SELECT 'column', attrelid::regclass || '.' || attname, concat_ws(' ', attnum,
            format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull, pg_get_expr(adbin, adrelid))
        FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
        LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE relnamespace = current_schema()::regnamespace AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
        UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = current_schema()
        UNION ALL SELECT 'view', viewname, definition FROM pg_views WHERE schemaname = current_schema()
        UNION ALL SELECT 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(pg_trigger.oid)
        FROM pg_trigger JOIN pg_class AS c ON c.oid = tgrelid
        WHERE relnamespace = current_schema()::regnamespace AND NOT tgisinternal
        UNION ALL SELECT 'function', proname, pg_get_functiondef(oid)
        FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
        ORDER BY 1, 2, 3
    """,
}
_TABLES = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name",
    "postgresql": "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename",
}
# With the place of each row and, where there is one, the transaction that wrote it: a row written anew is found out.
_ROWS = {
    "sqlite": 'SELECT rowid, * FROM "{table}" ORDER BY rowid',
    "postgresql": 'SELECT ctid::text, xmin::text, t.* FROM "{table}" AS t ORDER BY ctid',
}
_FOREIGN_KEYS = {
    "sqlite": 'SELECT "from", "table", "to", on_delete FROM pragma_foreign_key_list(\'{table}\')',
    "postgresql": """
        SELECT a.attname, confrelid::regclass::text, b.attname,
            CASE confdeltype WHEN 'c' THEN 'CASCADE' ELSE pg_get_constraintdef(oid) END
        FROM pg_constraint JOIN pg_attribute AS a ON a.attrelid = conrelid AND a.attnum = conkey[1]
        JOIN pg_attribute AS b ON b.attrelid = confrelid AND b.attnum = confkey[1]
        WHERE conrelid = '{table}'::regclass AND contype = 'f'
    """,
}


@contextmanager
def connected(url: str) -> Iterator[Any]:
    """The driver's connection, committed at the end. Foreign keys are not enforced: PostgreSQL fires no trigger."""
    parsed = make_url(url)
    connection: Any
    if backend_of(url) == "sqlite":
        connection = sqlite3.connect(str(parsed.database))
    else:
        connection = psycopg.connect(parsed.set(drivername="postgresql").render_as_string(hide_password=False))
        connection.execute("SET session_replication_role = replica")
    with closing(connection):
        yield connection
        connection.commit()


def backend_of(url: str) -> str:
    return make_url(url).get_backend_name()


def run(url: str, *scripts: str) -> None:
    with connected(url) as connection:
        for script in scripts:
            connection.executescript(script) if backend_of(url) == "sqlite" else connection.execute(script)


def insert(url: str, table: str, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    places = ", ".join(["?" if backend_of(url) == "sqlite" else "%s"] * len(names))
    with connected(url) as connection:
        statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})"
        connection.cursor().executemany(statement, rows)


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    with connected(url) as connection:
        found: list[tuple[Any, ...]] = connection.execute(statement).fetchall()
        return found


def definitions(url: str) -> list[tuple[Any, ...]]:
    """All that the catalogue says of the schema: kind and name first, the definition last."""
    return query(url, _DEFINITIONS[backend_of(url)])


def tables(url: str) -> list[str]:
    return [name for (name,) in query(url, _TABLES[backend_of(url)])]


def content(url: str) -> Content:
    """The catalogue, and every row of every table where it lies."""
    backend = backend_of(url)
    with connected(url) as connection:
        names = [name for (name,) in connection.execute(_TABLES[backend]).fetchall()]
        found: Content = {"catalogue": connection.execute(_DEFINITIONS[backend]).fetchall()}
        return found | {name: connection.execute(_ROWS[backend].format(table=name)).fetchall() for name in names}


def schema(url: str, table: str = "ingress_invites") -> dict[str, Any]:
    """What the database enforces on a table, in no order: one altered in place has its columns in another."""
    engine = open_engine(url)
    with reading(engine) as connection:
        inspector = inspect(connection)
        found: dict[str, Any] = {
            "columns": {
                one["name"]: (str(one["type"]).partition(" COLLATE")[0], one["nullable"], one["default"])
                for one in inspector.get_columns(table)
            },
            "key": inspector.get_pk_constraint(table)["constrained_columns"],
            "indexes": {one["name"]: (one["column_names"], one["unique"]) for one in inspector.get_indexes(table)},
            "unique": inspector.get_unique_constraints(table),
            "checks": inspector.get_check_constraints(table),
        }
    engine.dispose()
    return found | {
        "foreign keys": query(url, _FOREIGN_KEYS[backend_of(url)].format(table=table)),
        "triggers": [one for one in definitions(url) if one[0] == "trigger" and table in one[-1]],
    }
