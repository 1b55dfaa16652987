"""The gateway's schema: created, or an existing one adopted with every row it has."""

from pathlib import Path

from sqlalchemy import Connection, Engine

import outbox.migrate
from gateway_store.invite import TABLE
from gateway_store.migrations.needs import ADOPTED, needs
from outbox.migrate import Scripts, run_migrations

SCRIPTS = Scripts(
    Path(__file__).parent / "migrations", "gateway_store_schema_version", TABLE, "mirror", "0002", needs, ADOPTED
)


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the gateway's tables in one transaction; twice is harmless, and no row is lost.

    Raises `outbox.SchemaRefusedError`, with nothing changed, where the tables that exist are of no known shape.
    """
    run_migrations(engine, SCRIPTS)


def schema_problem(connection: Connection) -> str | None:
    """What keeps this release from using the mirror in a database, and the cure; None if nothing does."""
    return outbox.migrate.schema_problem(connection, SCRIPTS)
