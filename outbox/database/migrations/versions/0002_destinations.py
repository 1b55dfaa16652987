"""Two outboxes in one database, the time spent in refusals, crashes, leases by destination, identities, and rules.

Relays are stopped, daemons go on: their INSERT names no new column, and each has a default. Every row comes through as
it is, unless no row may be so; see `outbox.database.migrations.mend` for what becomes of those. Crashes that the first
version kept as words in ``last_error`` are counted in their column.

Leases keep their owner and their end, so that a message which killed its relay is still suspected, but get new tokens:
a relay of the first version that is still alive settles nothing more. Relays are forgotten; those that live sign on.
"""

import secrets

from alembic import op
from sqlalchemy import Connection, inspect, text

from outbox.clock import now_ms
from outbox.database.migrations import messages_postgresql, messages_sqlite
from outbox.database.migrations.mend import mend_rows
from outbox.database.migrations.tables import (
    CREATE_IDENTITY,
    CREATE_LEASES,
    CREATE_RELAYS,
    CREATE_ROUTES,
    FIRST_INSTANT,
    LAST_INSTANT,
    LONGEST_LEASE_MS,
    NEW_MESSAGES,
    OLDER,
    words,
)
from outbox.errors import SchemaRefusedError

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    connection = op.get_bind()
    _refuse_taken_names(connection)
    here = messages_sqlite if connection.dialect.name == "sqlite" else messages_postgresql
    here.lock(connection)
    last_seq = mend_rows(connection, here.last_seq(connection))
    here.alter(connection)
    here.set_last_seq(connection, last_seq)
    _renew_leases(connection)
    connection.exec_driver_sql("DROP TABLE outbox_relays")
    for statement in (CREATE_RELAYS, CREATE_IDENTITY, CREATE_ROUTES):
        _create(connection, statement)
    connection.execute(
        text("INSERT INTO outbox_identity (one, id, made_at) VALUES (1, :id, :now)"),
        {"id": secrets.token_hex(16), "now": now_ms()},
    )


def _refuse_taken_names(connection: Connection) -> None:
    inspector = inspect(connection)
    # SQLite's names ignore case.
    in_use = {name.lower() for name in (*inspector.get_table_names(), *inspector.get_view_names())}
    taken = {"outbox_identity", "outbox_routes", NEW_MESSAGES} & in_use
    if taken:
        raise SchemaRefusedError(
            f"{connection.engine.url.database} has tables of another origin: {', '.join(sorted(taken))}; "
            "rename them. Nothing was changed"
        )


def _renew_leases(connection: Connection) -> None:
    found = connection.exec_driver_sql("SELECT shard, owner, expires_at FROM outbox_leases ORDER BY shard").all()
    connection.exec_driver_sql("DROP TABLE outbox_leases")
    _create(connection, CREATE_LEASES)
    for shard, owner, expires_at in found:
        connection.execute(
            text("INSERT INTO outbox_leases VALUES ('gateway', :shard, :owner, :token, :expires_at, :length)"),
            {
                "shard": shard,
                "owner": owner.replace("\0", "")[:255] or "?",
                "token": secrets.token_hex(16),
                "expires_at": max(FIRST_INSTANT, min(LAST_INSTANT, expires_at)),
                "length": LONGEST_LEASE_MS,
            },
        )


def _create(connection: Connection, statement: str) -> None:
    bounds = {"first_instant": FIRST_INSTANT, "last_instant": LAST_INSTANT, "longest": LONGEST_LEASE_MS, "older": OLDER}
    connection.exec_driver_sql(statement.format(**words(connection), **bounds))
