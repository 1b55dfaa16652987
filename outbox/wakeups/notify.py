"""The wake-up on PostgreSQL: LISTEN on a connection of its own. Behind a pooler, or while it is lost, only polling."""

import os
import time

import psycopg
from sqlalchemy import Engine

from outbox.database import postgresql
from outbox.database.dead_connections import Watch
from outbox.redact import redact_reason
from outbox.statements import CHANNEL

TRY_AGAIN_SECONDS = 5.0


class NotifySource:
    """A connection that listens, made anew when it was lost; never an error."""

    def __init__(self, engine: Engine) -> None:
        _, self._where = engine.dialect.create_connect_args(engine.url)
        self._connection: psycopg.Connection | None = None
        self._watch = Watch(postgresql.LONGEST_SECONDS)
        self._owner = os.getpid()
        self._next_try = 0.0
        self.problem: str | None = None
        self.missed = False
        self._connect()

    def fileno(self) -> int:
        if self._connection is None and time.monotonic() >= self._next_try:
            self._connect()
        return -1 if self._connection is None else self._connection.fileno()

    def drain(self) -> bool:
        self.missed = False
        if self._connection is None:
            return False
        try:
            return len(list(self._connection.notifies(timeout=0))) > 0
        except psycopg.Error as error:
            self._lost(error)
            return False

    def close(self) -> None:
        # A child that was forked from the relay must not take leave of the server in its name.
        if self._connection is not None and self._owner == os.getpid():
            self._connection.close()
        self._connection = None

    def _connect(self) -> None:
        try:
            self._owner = os.getpid()
            self._connection = psycopg.connect(autocommit=True, **{**postgresql.CONNECT_ARGS, **self._where})
            self._listen(self._connection)
            # What was enqueued before it listened is found at once. A NOTIFY of its own would not do: it comes with
            # that statement's answer, and nothing is left to wait for.
            self.missed = True
            self.problem = None
        except psycopg.Error as error:
            self._lost(error)

    def _listen(self, connection: psycopg.Connection) -> None:
        # The relay's loop waits for the answer, and the driver would wait for ever.
        self._watch.begin(0, connection)
        try:
            connection.execute(f"LISTEN {CHANNEL}")
        finally:
            self._watch.end(0)

    def _lost(self, error: psycopg.Error) -> None:
        self.close()
        self.problem = redact_reason(str(error))
        self._next_try = time.monotonic() + TRY_AGAIN_SECONDS
