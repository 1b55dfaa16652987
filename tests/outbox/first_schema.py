"""The outbox as version 0.1.0 made it, for what an upgrade must bring over."""

from collections.abc import Mapping
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from outbox import shard_of, writing
from outbox.database.migrate import SCRIPTS

HONEST: dict[str, Any] = {
    "topic": "letter",
    "version": 1,
    "payload": '{"a":1}',
    "origin": "live",
    "enqueued_at": 1_700_000_000_000,
    "state": "pending",
    "attempts": 0,
    "available_at": None,
    "last_error": None,
    "settled_at": None,
}
SETTLED_AT = 1_700_000_000_001


def make_first(engine: Engine) -> None:
    """Runs the first script, and no other."""
    directory = ScriptDirectory(str(SCRIPTS.folder))
    with (
        writing(engine) as connection,
        EnvironmentContext(
            Config(), directory, fn=lambda revision, _context: directory._upgrade_revs("0001", revision)
        ) as environment,
    ):
        environment.configure(connection=connection, version_table=SCRIPTS.version_table)
        environment.run_migrations()


def put(connection: Connection, key: str, **columns: Any) -> None:
    """One message as 0.1.0 would store it, then with ``columns``; a text given as bytes is stored as such."""
    row: Mapping[str, Any] = {"key": key, "shard": shard_of(key), **HONEST, **columns}
    names = ", ".join(row)
    places = ", ".join(f"CAST(:{name} AS TEXT)" if isinstance(row[name], bytes) else f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO outbox_messages ({names}) VALUES ({places})"), row)


def put_honest(connection: Connection) -> None:
    """A message of every state, with all that 0.1.0 writes, and texts of every kind."""
    put(connection, "waits")
    put(connection, "replayed", origin="replay", version=2**53 - 1, enqueued_at=0)
    put(connection, "é😀 \\x00", topic="größe", payload='{"é": "\\u0000"}', version=-5)
    put(connection, "again", state="retrying", attempts=3, available_at=5, last_error="contact 'ä' missing")
    put(connection, "given up", state="dead", attempts=9, settled_at=SETTLED_AT, last_error="x" * 2_000)
    put(connection, "done", state="delivered", settled_at=SETTLED_AT)
    put(connection, "old", state="superseded", settled_at=SETTLED_AT)
    put(connection, "k" * 2_000, payload="x" * 100_000)
