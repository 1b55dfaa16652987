"""The daemon's schema: its own table, adopted as it stands or created, and the outbox beside it."""

from pathlib import Path

from sqlalchemy import Engine

import outbox.migrate
from assistant_store.invite import TABLE
from outbox.migrate import Scripts, run_migrations

SCRIPTS = Scripts(Path(__file__).parent / "migrations", "assistant_store_schema_version", TABLE)


def upgrade(engine: Engine) -> None:
    """Creates or upgrades the daemon's tables; twice is harmless. An existing invite table is left untouched.

    Raises `outbox.SchemaRefusedError`, with nothing changed, where that table, or one with a name of the outbox's, is
    of no known shape.
    """
    run_migrations(engine, SCRIPTS, outbox.migrate.SCRIPTS)
