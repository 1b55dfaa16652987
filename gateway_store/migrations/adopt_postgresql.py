"""Adopting a mirror on PostgreSQL: the table is altered in place; its rows, triggers and other indexes stay."""

from collections.abc import Iterator

from alembic import op
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError, NotSupportedError
from sqlalchemy.types import Integer, TypeEngine

from gateway_store.migrations import remember_closed
from gateway_store.migrations.mirror_schema import ADDED, DEFAULTS, INDEXES, OLD, REQUIRED, TABLE
from outbox.errors import SchemaRefusedError

BYTEWISE = ' COLLATE "C"'
REMEMBER_CLOSED = ";".join((remember_closed.FUNCTION, *remember_closed.POSTGRESQL.values()))


def names_in_use(connection: Connection) -> list[tuple[str, str, str]]:
    """Kind, name and table of all in the schema that has a name; tables, indexes and types share them."""
    rows = connection.execute(
        text(
            """
            SELECT CASE c.relkind WHEN 'i' THEN 'index' WHEN 'r' THEN 'table' ELSE 'relation' END AS kind,
                c.relname AS name, coalesce(t.relname, c.relname) AS of_table
            FROM pg_class AS c
            LEFT JOIN pg_index AS i ON i.indexrelid = c.oid LEFT JOIN pg_class AS t ON t.oid = i.indrelid
            WHERE c.relnamespace = current_schema()::regnamespace
            UNION ALL SELECT 'type', typname, '' FROM pg_type
            WHERE typnamespace = current_schema()::regnamespace AND typrelid = 0
            UNION ALL SELECT 'function', proname, '' FROM pg_proc
            WHERE pronamespace = current_schema()::regnamespace AND pronargs = 0
            UNION ALL SELECT 'trigger', g.tgname, c.relname FROM pg_trigger AS g JOIN pg_class AS c ON c.oid = g.tgrelid
            WHERE c.relnamespace = current_schema()::regnamespace AND c.relname = :table
            """
        ),
        {"table": TABLE},
    )
    return [(row.kind, row.name, row.of_table) for row in rows]


def adopt(connection: Connection) -> None:
    # Checks that wait for the commit would forbid to alter the table.
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    # Before the table is written anew: updating a row of one's own transaction looks for its contact again, which may
    # be gone.
    op.execute(f"ALTER TABLE {TABLE} ALTER COLUMN invite_code_hash DROP NOT NULL")
    op.execute(f"UPDATE {TABLE} SET invite_code_hash = NULL WHERE invite_code_hash = ''")  # noqa: S608 - our own name
    _alter(connection, [*_wide_columns(connection), *_rules_of_columns(connection), *_cascading(connection)])
    for index in inspect(connection).get_indexes(TABLE):
        if index["name"] in INDEXES:
            op.execute(f"DROP INDEX {index['name']}")


def _alter(connection: Connection, actions: list[str]) -> None:
    """In one statement, so that the table is written anew at most once."""
    database = connection.engine.url.database
    try:
        op.execute(f"ALTER TABLE {TABLE} {', '.join(actions)}")
    except IntegrityError as error:
        raise SchemaRefusedError(
            f"{TABLE} in {database} has a row that cannot be kept: {error.orig}; "
            "correct or delete it. Nothing was changed"
        ) from error
    except NotSupportedError as error:
        user = getattr(getattr(error.orig, "diag", None), "message_detail", None)
        raise SchemaRefusedError(
            f"{TABLE} in {database} has a column that cannot be widened: {error.orig} ({user}); "
            "drop what uses it, upgrade, and create it again. Nothing was changed"
        ) from error


def _wide_columns(connection: Connection) -> Iterator[str]:
    found = {column["name"]: column["type"] for column in inspect(connection).get_columns(TABLE)}
    for name, kind in (OLD | ADDED).items():
        wide = "BIGINT" if kind == "integer" else "TEXT"
        if name not in found:
            yield f"ADD COLUMN {name} {wide}"
        elif _is_bounded(found[name]):
            yield f"ALTER COLUMN {name} TYPE {wide}"


def _is_bounded(kind: TypeEngine[object]) -> bool:
    return str(kind) != "BIGINT" if isinstance(kind, Integer) else getattr(kind, "length", None) is not None


def _rules_of_columns(connection: Connection) -> Iterator[str]:
    for column in inspect(connection).get_columns(TABLE):
        if column["name"] not in ("id", *REQUIRED):
            yield f"ALTER COLUMN {column['name']} DROP NOT NULL"
    yield from (f"ALTER COLUMN {name} SET NOT NULL" for name in REQUIRED)
    yield from (f"ALTER COLUMN {name} SET DEFAULT {value}" for name, value in DEFAULTS.items())


def _cascading(connection: Connection) -> Iterator[str]:
    for key in inspect(connection).get_foreign_keys(TABLE):
        if key["options"].get("ondelete") != "CASCADE":
            yield f'DROP CONSTRAINT "{key["name"]}"'
            yield "ADD FOREIGN KEY (contact_id) REFERENCES contacts (id) ON DELETE CASCADE"
