"""Adopting a mirror on PostgreSQL: the table is altered in place; its rows, triggers and other indexes stay."""

from alembic import op
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from gateway_store.migrations.mirror_schema import ADDED, CLOSED, DEFAULTS, INDEXES, OLD, REQUIRED, TABLE
from outbox.errors import SchemaRefusedError

BYTEWISE = ' COLLATE "C"'
_ALL_CLOSED = f"SELECT id, status, use_count FROM {TABLE} WHERE status <> 'active' OR use_count > 0"  # noqa: S608
_REMEMBER = f"""
    INSERT INTO {CLOSED} (id, status, use_count) {{rows}}
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, use_count = excluded.use_count
"""
# TRUNCATE, also one that cascades from contacts, deletes rows and fires no trigger of DELETE.
REMEMBER_CLOSED = f"""
    CREATE FUNCTION {TABLE}_remember_closed() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
    BEGIN
        IF TG_OP = 'TRUNCATE' THEN
            {_REMEMBER.format(rows=_ALL_CLOSED)};
        ELSE
            {_REMEMBER.format(rows="VALUES (old.id, old.status, old.use_count)")};
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER {TABLE}_remember_closed AFTER DELETE ON {TABLE}
    FOR EACH ROW WHEN (old.status <> 'active' OR old.use_count > 0)
    EXECUTE FUNCTION {TABLE}_remember_closed();
    CREATE TRIGGER {TABLE}_remember_closed_all BEFORE TRUNCATE ON {TABLE}
    FOR EACH STATEMENT EXECUTE FUNCTION {TABLE}_remember_closed();
"""


def names_in_use(connection: Connection) -> list[tuple[str, str, str]]:
    """Kind, name and table of all in the schema that has a name; tables and indexes share them."""
    rows = connection.execute(
        text(
            """
            SELECT CASE c.relkind WHEN 'i' THEN 'index' WHEN 'r' THEN 'table' ELSE 'relation' END AS kind, c.relname,
                coalesce(t.relname, c.relname) AS of_table
            FROM pg_class AS c
            LEFT JOIN pg_index AS i ON i.indexrelid = c.oid LEFT JOIN pg_class AS t ON t.oid = i.indrelid
            WHERE c.relnamespace = current_schema()::regnamespace
            """
        )
    )
    return [(row.kind, row.relname, row.of_table) for row in rows]


def adopt(connection: Connection) -> None:
    found = {column["name"]: column for column in inspect(connection).get_columns(TABLE)}
    for name, kind in (OLD | ADDED).items():
        if name not in found:
            op.execute(f"ALTER TABLE {TABLE} ADD COLUMN {name} {'BIGINT' if kind == 'integer' else 'TEXT'}")
        elif kind == "integer" and str(found[name]["type"]) != "BIGINT":
            op.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {name} TYPE BIGINT")
    for name in (OLD | ADDED).keys() - {"id", *REQUIRED}:
        op.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {name} DROP NOT NULL")
    op.execute(f"UPDATE {TABLE} SET invite_code_hash = NULL WHERE invite_code_hash = ''")  # noqa: S608 - our own name
    for name, value in DEFAULTS.items():
        op.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {name} SET DEFAULT {value}")
    try:
        for name in REQUIRED:
            op.execute(f"ALTER TABLE {TABLE} ALTER COLUMN {name} SET NOT NULL")
    except IntegrityError as error:
        raise SchemaRefusedError(
            f"{TABLE} in {connection.engine.url.database} has a row that cannot be kept: {error.orig}; "
            "correct or delete it. Nothing was changed"
        ) from error
    for name in INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {name}")
