"""Where a relay begins to read, so that reading takes no longer the more messages were settled before.

PostgreSQL keeps the index entries of settled messages until they are vacuumed, and while anybody has an old snapshot
open that is never: reading what is pending from the lowest ``seq`` on would walk over all of them, each time.
"""

import math
import time
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from outbox import statements
from outbox.message import LOWEST_SEQ, Destination, Message, Origin

MARK_EVERY_SECONDS = 0.1
WHOLE_EVERY_SECONDS = 2.0
# A whole read that takes long comes the less often, so that it never takes more than this part of the time.
WHOLE_PART = 0.02


class Horizon:
    """What lies behind it is settled, and nobody can still commit a message there.

    ``seq`` is given out before the commit, so a lower one may become visible later; the horizon passes it only when all
    transactions have ended that were under way when it was given out. It saves time and decides nothing: all that is
    pending is found by its state, wherever it lies, at the next whole read.
    """

    def __init__(self) -> None:
        self._begin = dict.fromkeys(Origin, LOWEST_SEQ)
        self._shards: frozenset[int] = frozenset()
        self._next_whole = 0.0
        self._next_mark = 0.0
        self._given_out = 0
        self._awaited: tuple[int, int] | None = None
        self._final = 0
        self._replays = False

    def pending(
        self,
        connection: Connection,
        destination: Destination,
        shards: Iterable[int],
        limit: int,
        max_bytes: int,
        but: Sequence[statements.Left] = (),
    ) -> statements.Found:
        """`statements.pending`, begun at the horizon."""
        wanted = frozenset(shards)
        if connection.dialect.name == "sqlite" or any(isinstance(one, statements.NewerThan) for one in but):
            # What must wait lies in front of the horizon, and would be behind it when it may go.
            return statements.pending(connection, destination, wanted, limit, max_bytes, but=but)
        started = time.monotonic()
        whole = wanted != self._shards or started >= self._next_whole
        if whole:
            self._shards, self._begin = wanted, dict.fromkeys(Origin, LOWEST_SEQ)
        found, any_retrying = statements.pending(
            connection,
            destination,
            wanted,
            limit,
            max_bytes,
            but=but,
            live_from=self._begin[Origin.LIVE],
            # One question is enough for both kinds until there is more than one to pass over.
            replay_from=self._begin[Origin.REPLAY] if self._replays else LOWEST_SEQ,
        )
        self._replays = self._replays or any(one.origin == Origin.REPLAY for one in found)
        now = time.monotonic()
        if whole:
            self._next_whole = now + max(WHOLE_EVERY_SECONDS, (now - started) / WHOLE_PART)
        if now >= self._next_mark:
            self._mark(connection)
            self._next_mark = now + MARK_EVERY_SECONDS
        is_all = len(found) < limit and sum(len(one.payload) for one in found) < max_bytes
        self._advance(Origin.LIVE, found, is_all or any(one.origin == Origin.REPLAY for one in found))
        self._advance(Origin.REPLAY, found, is_all)
        return statements.Found(found, any_retrying)

    def _advance(self, origin: Origin, found: list[Message], all_of_it: bool) -> None:
        first = next((one.seq for one in found if one.origin == origin), math.inf if all_of_it else LOWEST_SEQ)
        self._begin[origin] = max(self._begin[origin], int(min(first, self._final + 1)))

    def _mark(self, connection: Connection) -> None:
        """Three steps, each in a later snapshot: what was given out, who was under way then, all of them ended."""
        oldest, newest, given_out = statements.under_way(connection, self._final)
        if self._awaited is not None and oldest >= self._awaited[1]:
            self._final, self._awaited = self._awaited[0], None
        if self._awaited is None and newest is not None:
            self._awaited = (self._given_out, newest)
        self._given_out = given_out
