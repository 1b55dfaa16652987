"""PostgreSQL set up as the promises need: our own BEGIN, in one round trip, and nothing kept in the session."""

import time
from contextlib import closing
from types import MethodType
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from outbox.database.error_text import hide_rows

DRIVER = "postgresql+psycopg"
CONNECT_SECONDS = 3
# Statements prepared by name live in a session, which a transaction-mode pooler takes away. A peer that is gone without
# a word is noticed within the time-outs.
CONNECT_ARGS: dict[str, Any] = {
    "prepare_threshold": None,
    "connect_timeout": CONNECT_SECONDS,
    "client_encoding": "utf8",
    "fallback_application_name": "invite-relay",
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
}
_TWO_PHASES = tuple(f"do_{step}_twophase" for step in ("begin", "prepare", "commit", "rollback", "recover"))
# How long the server waits in mid-transaction for a relay that stands still.
FROZEN_SECONDS = 10.0
# A connection used that lately is taken to be alive: asking costs a round trip, and each message takes three.
FRESH_SECONDS = 1.0
# How long a relay waits for a server that takes connections and then says nothing.
LONGEST_SECONDS = 30.0
# A database or a role may have been set to forget its last commits in a crash; what is stronger than "on" stays.
_DURABLE = """
    SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'
"""
# Between two runs of autovacuum a queue grows from nothing to a million rows, and statistics know none of it: a plan
# that reads and sorts all that waits looks cheap then.
_BY_INDEX = "".join(
    f"; SET LOCAL enable_{one} = off" for one in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin")
)


def set_up(engine: Engine) -> None:
    # Imported here: whoever uses SQLite only would carry it along.
    from sqlalchemy.dialects.postgresql.base import PGDialect

    hide_rows(engine)
    # The driver's own ways to commit in two phases begin a transaction themselves, and not in autocommit.
    vars(engine.dialect).update({name: MethodType(getattr(PGDialect, name), engine.dialect) for name in _TWO_PHASES})

    @event.listens_for(engine, "connect")
    def configure(dbapi_connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        # The driver's own BEGIN would cost a round trip more, and cannot carry the time-outs.
        dbapi_connection.autocommit = True
        # Behind a pooler a session may listen for another client; the driver would keep for ever what it hears.
        dbapi_connection.add_notify_handler(_pass_over)
        read_what_is_no_text(dbapi_connection)


def read_what_is_no_text(connection: DBAPIConnection) -> None:
    """A database in SQL_ASCII keeps any bytes: those that are no UTF-8 come as lone surrogates, as from SQLite."""
    # Imported here: the driver is an extra.
    from psycopg.adapt import Buffer, Loader

    driver = getattr(connection, "driver_connection", connection)
    if driver.info.parameter_status("server_encoding") != "SQL_ASCII":
        return
    # Otherwise the server refuses to send them, and whatever is read beside them.
    with closing(connection.cursor()) as cursor:
        cursor.execute("SET client_encoding TO 'SQL_ASCII'")

    class Lossless(Loader):
        def load(self, data: Buffer) -> str:
            return str(data, "utf-8", "surrogateescape")

    for name in ("text", "varchar", "bpchar", "name"):
        driver.adapters.register_loader(name, Lossless)


def watch(engine: Engine) -> None:
    """No transaction of a relay takes as long as `LONGEST_SECONDS`, unless the server has stopped answering."""
    # Imported here: the driver is an extra.
    import psycopg

    from outbox.database.dead_connections import Watch

    watching = Watch(LONGEST_SECONDS)

    @event.listens_for(engine, "checkout")
    def begin(connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: object) -> None:
        driver: psycopg.Connection = connection  # type: ignore[assignment]
        watching.begin(id(record), driver)
        if time.monotonic() - record.info.get("used_at", 0.0) < FRESH_SECONDS:
            return
        try:
            driver.execute("SELECT 1")
        except psycopg.Error as error:
            raise DisconnectionError(str(error)) from error

    @event.listens_for(engine, "checkin")
    def end(_connection: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
        watching.end(id(record))
        record.info["used_at"] = time.monotonic()


def _pass_over(_notification: object) -> None: ...


def begin_reading(relay: bool) -> str:
    return "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY" + (_BY_INDEX if relay else "")


def begin_writing(busy_timeout: float, relay: bool) -> str:
    """Time-outs, in seconds, hold for this transaction only."""
    words = f"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL lock_timeout = {_ms(busy_timeout)}; {_DURABLE}"
    if not relay:
        return words
    return f"{words}; SET LOCAL idle_in_transaction_session_timeout = {_ms(FROZEN_SECONDS)}{_BY_INDEX}"


def _ms(seconds: float) -> int:
    # 0 would mean no limit at all.
    return max(1, int(seconds * 1000))
