"""The gateway's schema: created, or an existing one adopted with every row it has."""

from pathlib import Path

from sqlalchemy import Engine

from gateway_store.invite import TABLE
from outbox.migrate import Scripts, run_migrations

SCRIPTS = Scripts(Path(__file__).parent / "migrations", "gateway_store_schema_version", TABLE)


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the gateway's tables in one transaction; twice is harmless, and no row is lost.

    Raises `outbox.SchemaRefusedError`, with nothing changed, where the tables that exist are of no known shape.
    """
    run_migrations(engine, SCRIPTS)
