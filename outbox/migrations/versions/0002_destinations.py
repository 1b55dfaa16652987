"""Who this outbox is, and into which store each route drains."""

import secrets

from alembic import op
from sqlalchemy import text

from outbox.clock import now_ms

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    integer = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(
        f"CREATE TABLE outbox_identity (single {integer} PRIMARY KEY CHECK (single = 1), id TEXT NOT NULL, made_at {integer} NOT NULL)"
    )
    op.execute(
        f"CREATE TABLE outbox_routes (destination TEXT NOT NULL PRIMARY KEY, gateway_identity TEXT, gateway_url TEXT, batches_seen {integer} NOT NULL DEFAULT 0, first_drained_at {integer})"
    )
    op.get_bind().execute(
        text("INSERT INTO outbox_identity (single, id, made_at) VALUES (1, :id, :now)"),
        {"id": secrets.token_hex(16), "now": now_ms()},
    )
