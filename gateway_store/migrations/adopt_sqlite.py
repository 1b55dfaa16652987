"""Adopting a mirror on SQLite: the table is rebuilt, since SQLite before 3.53 cannot drop a NOT NULL."""

from alembic import op
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from gateway_store.migrations import remember_closed
from gateway_store.migrations.mirror_schema import CREATE_INVITES, INDEXES, TABLE
from outbox.errors import SchemaRefusedError

BYTEWISE = ""
NEW = f"{TABLE}_new"
(REMEMBER_CLOSED,) = remember_closed.SQLITE.values()


def names_in_use(connection: Connection) -> list[tuple[str, str, str]]:
    """Kind, name and table of all that has a name; SQLite's names ignore case."""
    rows = connection.execute(text("SELECT type, name, tbl_name FROM sqlite_master")).all()
    return [(row.type, row.name, row.tbl_name) for row in rows]


def adopt(connection: Connection) -> None:
    triggers = _in_catalogue(connection, "trigger")
    if triggers:
        raise SchemaRefusedError(
            f"{TABLE} in {connection.engine.url.database} has triggers ({', '.join(triggers)}), which a rebuild would "
            "lose; drop them, upgrade, and create them again. Nothing was changed"
        )
    _rebuild(connection)


def _rebuild(connection: Connection) -> None:
    """SQLite drops a NOT NULL only by copying the table; with foreign keys off, dropping the old one deletes no row."""
    found = [column["name"] for column in inspect(connection).get_columns(TABLE)]
    other_indexes = [
        statement for name, statement in _in_catalogue(connection, "index").items() if name not in INDEXES and statement
    ]
    copied = ", ".join(f"NULLIF(\"{name}\", '')" if name == "invite_code_hash" else f'"{name}"' for name in found)
    names = ", ".join(f'"{name}"' for name in found)
    op.execute(CREATE_INVITES.format(table=NEW, bytewise=BYTEWISE))
    try:
        op.execute(f"INSERT INTO {NEW} ({names}) SELECT {copied} FROM {TABLE}")  # noqa: S608 - names checked above
    except IntegrityError as error:
        raise SchemaRefusedError(
            f"{TABLE} in {connection.engine.url.database} has a row that cannot be kept: {error.orig}; "
            "correct or delete it. Nothing was changed"
        ) from error
    op.execute(f"DROP TABLE {TABLE}")
    # Without this a view, or a trigger elsewhere, that names the table would stop the renaming: it is gone just now.
    op.execute("PRAGMA legacy_alter_table=ON")
    op.execute(f"ALTER TABLE {NEW} RENAME TO {TABLE}")
    op.execute("PRAGMA legacy_alter_table=OFF")
    for statement in other_indexes:
        connection.exec_driver_sql(statement)


def _in_catalogue(connection: Connection, kind: str) -> dict[str, str | None]:
    rows = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE tbl_name = :table AND type = :kind"),
        {"table": TABLE, "kind": kind},
    )
    return {row.name: row.sql for row in rows}
