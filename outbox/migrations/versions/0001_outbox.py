"""The outbox: messages, shard leases, and the relays alive."""

from alembic import op
from sqlalchemy import inspect

from outbox.errors import SchemaRefusedError

revision = "0001"
down_revision = None

# The state is written out in each partial index and in each query that uses it: SQLite matches them by their text.
STATEMENTS = (
    """
    CREATE TABLE outbox_messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        topic TEXT NOT NULL,
        key TEXT NOT NULL,
        version INTEGER NOT NULL,
        shard INTEGER NOT NULL CHECK (shard BETWEEN 0 AND 63),
        payload TEXT NOT NULL,
        origin TEXT NOT NULL DEFAULT 'live' CHECK (origin IN ('live', 'replay')),
        enqueued_at INTEGER NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending'
            CHECK (state IN ('pending', 'retrying', 'delivered', 'superseded', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
        available_at INTEGER CHECK (state <> 'retrying' OR available_at IS NOT NULL),
        last_error TEXT CHECK (length(last_error) <= 2000),
        settled_at INTEGER CHECK ((state IN ('delivered', 'superseded', 'dead')) = (settled_at IS NOT NULL))
    ) STRICT
    """,
    "CREATE INDEX ix_outbox_pending ON outbox_messages (origin, seq) WHERE state = 'pending'",
    "CREATE INDEX ix_outbox_retrying ON outbox_messages (available_at, seq) WHERE state = 'retrying'",
    """
    CREATE INDEX ix_outbox_key ON outbox_messages (topic, key, version)
    WHERE state IN ('pending', 'retrying', 'dead')
    """,
    "CREATE INDEX ix_outbox_dead ON outbox_messages (seq) WHERE state = 'dead'",
    "CREATE INDEX ix_outbox_settled ON outbox_messages (settled_at) WHERE state IN ('delivered', 'superseded')",
    """
    CREATE TABLE outbox_leases (
        shard INTEGER PRIMARY KEY CHECK (shard BETWEEN 0 AND 63),
        owner TEXT NOT NULL,
        token TEXT NOT NULL UNIQUE,
        expires_at INTEGER NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE outbox_relays (
        id TEXT PRIMARY KEY,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started_at INTEGER NOT NULL,
        seen_at INTEGER NOT NULL
    ) STRICT
    """,
)


def upgrade() -> None:
    taken = {"outbox_messages", "outbox_leases", "outbox_relays"} & set(inspect(op.get_bind()).get_table_names())
    if taken:
        raise SchemaRefusedError(
            f"{op.get_bind().engine.url.database} has tables of another origin: {', '.join(sorted(taken))}; "
            "rename them. Nothing was changed"
        )
    for statement in STATEMENTS:
        op.execute(statement)
