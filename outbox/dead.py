"""Dead letters: given up on, kept, and made pending again by hand."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine

from outbox import statements
from outbox.clock import now_ms
from outbox.database.encoding import storable
from outbox.database.engine import let_others_write, reading, writing
from outbox.message import DROPPED, HIGHEST_SEQ, LOWEST_SEQ, Destination
from outbox.redact import MAX_REASON, redact_reason

_PAGE = 500


def list_dead(engine: Engine, destination: Destination) -> Iterator[dict[str, Any]]:
    """Every dead letter by ``seq``, without its payload; reads page by page and holds no transaction in between."""
    first: int | None = LOWEST_SEQ
    while first is not None:
        with reading(engine) as connection:
            page = statements.dead_messages(connection, destination, first, _PAGE)
        yield from (dict(row) for row in page)
        first = _behind(page)


def show_message(connection: Connection, seq: int) -> dict[str, Any] | None:
    row = statements.message_by_seq(connection, seq)
    return None if row is None else dict(row)


def retry_all_dead(engine: Engine, destination: Destination) -> int:
    """Makes every dead letter pending again, in small transactions with pauses; returns how many."""
    total = 0
    first: int | None = LOWEST_SEQ
    while first is not None:
        started = time.monotonic()
        with writing(engine) as connection:
            page = statements.dead_messages(connection, destination, first, _PAGE)
            now = now_ms()
            for row in page:
                total += statements.revive_dead(connection, row["seq"], now)
        first = _behind(page)
        if first is not None:
            let_others_write(engine, time.monotonic() - started)
    return total


def _behind(page: Sequence[Mapping[str, Any]]) -> int | None:
    """The lowest ``seq`` that the next page can have; None if there is none."""
    if len(page) < _PAGE or page[-1]["seq"] == HIGHEST_SEQ:
        return None
    return int(page[-1]["seq"]) + 1


def retry_dead(engine: Engine, seq: int) -> int:
    """Makes a dead letter pending again, and with it every other dead one of its key; returns how many, 0 if none is.

    All of the key, because an older message stays unsettled or dead while a newer one is dead.
    """
    with writing(engine) as connection:
        return statements.revive_dead(connection, seq, now_ms())


def drop_dead(connection: Connection, seq: int, who: str, why: str) -> tuple[int, int]:
    """Settles a dead letter undelivered, in the caller's transaction, and all of its key that is not newer: what waits
    behind it is an older state, and may be more open. Returns how many of them were dead, and how many waited.

    They become superseded. Who dropped them, why, and what the message was dead for stand in ``last_error``, and prune
    leaves them. (0, 0) if it is not dead.
    """
    row = statements.message_by_seq(connection, seq)
    was = "" if row is None else str(row["last_error"] or "no reason was kept")
    reason = redact_reason(f"{DROPPED}{who}: {why}; it was dead because: {was}")
    statements.drop_large_payloads(connection, [seq])
    return statements.drop_dead(connection, seq, storable(connection, reason)[:MAX_REASON], now_ms())
