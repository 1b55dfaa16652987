"""Who the store is, made with it: a relay that would drain into another one refuses."""

import secrets

from alembic import op
from sqlalchemy import inspect, text

from outbox.clock import now_ms
from outbox.errors import SchemaRefusedError

revision = "0002"
down_revision = "0001"

TABLE, COUNTER = "store_identity", "store_batches"
CREATE = """
    CREATE TABLE store_identity (
        single {integer} PRIMARY KEY CHECK (single = 1),
        id TEXT NOT NULL CHECK (length(id) = 32),
        made_at {integer} NOT NULL,
        drained_from TEXT{counter}
    )
"""


def upgrade() -> None:
    connection = op.get_bind()
    inspector = inspect(connection)
    in_use = [*inspector.get_table_names(), *inspector.get_view_names()]
    if connection.dialect.name != "sqlite":
        in_use += inspector.get_sequence_names()
    # SQLite's names ignore case.
    taken = {TABLE, COUNTER} & {name.lower() for name in in_use}
    if taken:
        raise SchemaRefusedError(
            f"{connection.engine.url.database} has another use for names that the gateway's store needs: "
            f"{', '.join(sorted(taken))}; rename or drop what has them. Nothing was changed"
        )
    if connection.dialect.name == "sqlite":
        op.execute(CREATE.format(integer="INTEGER", counter=", batches INTEGER NOT NULL DEFAULT 0"))
    else:
        op.execute(CREATE.format(integer="BIGINT", counter=""))
        op.execute(f"CREATE SEQUENCE {COUNTER}")
    connection.execute(
        text(f"INSERT INTO {TABLE} (single, id, made_at) VALUES (1, :id, :now)"),  # noqa: S608 - a constant
        {"id": secrets.token_hex(16), "now": now_ms()},
    )
