"""The daemon's schema: its own table, adopted as it stands or created, and the outbox beside it."""

from pathlib import Path

from sqlalchemy import Connection, Engine

import outbox.database.migrate
from assistant_store.invites.invite import TABLE
from assistant_store.migrations.needs import ADOPTED, needs
from outbox.database.autogenerate import leaving_alone
from outbox.database.migrate import Scripts, run_migrations

SCRIPTS = Scripts(
    Path(__file__).parent / "migrations",
    "assistant_store_schema_version",
    TABLE,
    "invite table",
    "0001",
    needs,
    ADOPTED,
)
PARTS = (outbox.database.migrate.SCRIPTS, SCRIPTS)
include_object = leaving_alone(*PARTS)
"""For the daemon's own Alembic: ``context.configure(include_object=assistant_store.include_object)``.

Autogenerate then drops no table or index of ours that the daemon does not declare.
"""


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the daemon's tables; twice is harmless. An existing invite table is left untouched.

    Raises `outbox.SchemaRefusedError`, with nothing changed, where that table, or one with a name of the outbox's, is
    of no known shape, or ours have lost what they need.
    """
    run_migrations(engine, SCRIPTS, outbox.database.migrate.SCRIPTS)


def schema_problem(connection: Connection) -> str | None:
    """What keeps this release from using the daemon's database, and the cure; None if nothing does."""
    return outbox.database.migrate.schema_problem(connection, *PARTS)
