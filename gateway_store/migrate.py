"""The gateway's schema: created, or an existing one adopted with every row it has."""

from contextlib import suppress
from pathlib import Path

from sqlalchemy import Connection, Engine

import outbox.database.migrate
from gateway_store.errors import OwnedByAnotherProgramError
from gateway_store.invites.invite import TABLE
from gateway_store.migrations.needs import ADOPTED, needs
from gateway_store.owner import marks_in, of_others
from outbox.database.autogenerate import leaving_alone
from outbox.database.migrate import Scripts, is_made, run_migrations
from outbox.database.shape import Needs, shape_problem
from outbox.database.untouched import reading_untouched
from outbox.errors import DatabaseMissingError

SCRIPTS = Scripts(
    Path(__file__).parent / "migrations", "gateway_store_schema_version", TABLE, "mirror", "0002", needs, ADOPTED
)
include_object = leaving_alone(SCRIPTS)
"""As `assistant_store.include_object`, for a program whose own tables are in the gateway's database."""


def upgrade(engine: Engine, *, take_over: bool = False) -> None:
    """Creates or upgrades the gateway's tables in one transaction; twice is harmless, and no row is lost.

    Raises `outbox.SchemaRefusedError`, with nothing changed, where the tables that exist are of no known shape; as
    `OwnedByAnotherProgramError` where the real gateway keeps its own rows here, unless that is to be taken over: never
    start the other program on it again. Once taken over it is ours, and needs no such word any more.
    """

    def allow(connection: Connection) -> None:
        if not take_over and is_of_others(connection):
            database = connection.engine.url.database
            raise OwnedByAnotherProgramError(f"{database} {of_others(connection)}. Nothing was changed")

    # First without a touch: a connection that could upgrade would already change the file's log and its rights.
    with suppress(DatabaseMissingError), reading_untouched(engine) as connection:
        allow(connection)
    run_migrations(engine, SCRIPTS, allow=allow)


def is_of_others(connection: Connection) -> bool:
    """Whether the real gateway keeps its own rows here, and the database was not taken over."""
    return not is_made(connection, SCRIPTS) and bool(marks_in(connection))


def schema_problem(connection: Connection) -> str | None:
    """What keeps this release from using the mirror in a database, and the cure; None if nothing does."""
    if is_of_others(connection):
        return of_others(connection)
    return outbox.database.migrate.schema_problem(connection, SCRIPTS)


def rows_problem(connection: Connection) -> str | None:
    """The same of comparing its rows only, which may be another program's."""
    whole = needs(connection.dialect.name)
    tables = {name: whole.tables[name] for name in ADOPTED}
    return shape_problem(connection, Needs(tables, {name: whole.keys[name] for name in ADOPTED}))
