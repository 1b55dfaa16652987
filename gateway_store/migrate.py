"""The gateway's schema: created, or an existing one adopted with every row it has."""

from pathlib import Path

from sqlalchemy import Engine

from outbox.migrate import run_migrations

VERSION_TABLE = "gateway_store_schema_version"


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the gateway's tables in one transaction; twice is harmless, and no row is lost.

    Raises `outbox.SchemaRefusedError`, with nothing changed, where the tables that exist are of no known shape.
    """
    run_migrations(engine, Path(__file__).parent / "migrations", VERSION_TABLE)
