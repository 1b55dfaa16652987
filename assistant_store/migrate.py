"""The daemon's schema: its own table, adopted as it stands or created, and the outbox beside it."""

from pathlib import Path

from sqlalchemy import Engine

import outbox
from outbox.migrate import run_migrations

VERSION_TABLE = "assistant_store_schema_version"


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the daemon's tables; twice is harmless. An existing invite table is left untouched.

    Raises `outbox.SchemaRefusedError` where that table, or one with a name of the outbox's, is of no known shape; it
    is then as it was.
    """
    run_migrations(engine, Path(__file__).parent / "migrations", VERSION_TABLE)
    outbox.upgrade(engine)
