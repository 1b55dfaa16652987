"""Retention: old settled messages go, in small transactions; pending, retrying and dead ones never."""

import time
from collections.abc import Callable
from datetime import timedelta

from sqlalchemy import Engine

from outbox import statements
from outbox.clock import now_ms
from outbox.database.engine import let_others_write, writing
from outbox.message import Destination

ROWS_A_TRANSACTION = 500


def prune(
    engine: Engine, destination: Destination, retention: timedelta, go_on: Callable[[], bool] = lambda: True
) -> int:
    """Deletes delivered and superseded messages settled longer than ``retention`` ago; returns how many.

    Each transaction is small, so that a daemon waiting to enqueue gets its turn in between; after each ``go_on`` is
    asked.
    """
    cutoff = now_ms() - int(retention / timedelta(milliseconds=1))
    total = 0
    while True:
        started = time.monotonic()
        with writing(engine) as connection:
            deleted = statements.delete_settled_before(connection, destination, cutoff, ROWS_A_TRANSACTION)
        total += deleted
        if deleted < ROWS_A_TRANSACTION or not go_on():
            return total
        let_others_write(engine, time.monotonic() - started)
