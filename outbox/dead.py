"""Dead letters: given up on, kept, and made pending again by hand."""

import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine

from outbox import statements
from outbox.clock import now_ms
from outbox.engine import let_others_write, reading, writing

_PAGE = 500


def list_dead(engine: Engine) -> Iterator[dict[str, Any]]:
    """Every dead letter by ``seq``, without its payload; reads page by page and holds no transaction in between."""
    after = 0
    while True:
        with reading(engine) as connection:
            page = statements.dead_messages(connection, after, _PAGE)
        yield from (dict(row) for row in page)
        if len(page) < _PAGE:
            return
        after = page[-1]["seq"]


def show_message(connection: Connection, seq: int) -> dict[str, Any] | None:
    row = statements.message_by_seq(connection, seq)
    return None if row is None else dict(row)


def retry_all_dead(engine: Engine) -> int:
    """Makes every dead letter pending again, in small transactions with pauses; returns how many."""
    total = 0
    while True:
        started = time.monotonic()
        with writing(engine) as connection:
            page = statements.dead_messages(connection, 0, _PAGE)
            now = now_ms()
            for row in page:
                total += statements.revive_dead(connection, row["topic"], row["key"], now)
        if len(page) < _PAGE:
            return total
        let_others_write(engine, time.monotonic() - started)


def retry_dead(engine: Engine, seq: int) -> int:
    """Makes a dead letter pending again, and with it every other dead one of its key; returns how many, 0 if none is.

    All of the key, because an older message stays unsettled or dead while a newer one is dead.
    """
    with writing(engine) as connection:
        row = statements.message_by_seq(connection, seq)
        if row is None or row["state"] != "dead":
            return 0
        return statements.revive_dead(connection, row["topic"], row["key"], now_ms())
