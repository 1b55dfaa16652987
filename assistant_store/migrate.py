"""The daemon's schema: its own table, adopted as it stands or created, and the outbox beside it."""

from pathlib import Path

from sqlalchemy import Engine

import outbox
from outbox.migrate import run_migrations

VERSION_TABLE = "assistant_store_schema_version"


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the daemon's tables; twice is harmless. An existing invite table is left untouched.

    Raises `outbox.SchemaRefusedError`, with nothing changed, where that table is of no known shape.
    """
    run_migrations(engine, Path(__file__).parent / "migrations", VERSION_TABLE)
    outbox.upgrade(engine)
