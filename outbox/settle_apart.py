"""Settling where the table may refuse a row: that one is found, and the others are settled without it."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outbox.database.driver import is_of_a_row
from outbox.database.engine import writing
from outbox.message import Destination, Message
from outbox.redact import reason_of
from outbox.settle import Judged, Settled, settle
from outbox.verdict import RetryPolicy


def settle_apart(
    engine: Engine,
    destination: Destination,
    tokens: Mapping[int, str],
    judged: Sequence[Judged],
    policy: RetryPolicy,
    now: int,
) -> tuple[list[Settled], list[tuple[Message, str]]]:
    """What `settle` returns, and the messages that it cannot write, each with the reason; nothing was written of them.

    One transaction, unless a row is refused, by a constraint or a trigger that is not ours to know; then its half of
    the batch is tried in halves.
    """
    try:
        with writing(engine) as connection:
            return settle(connection, destination, tokens, judged, policy, now), []
    except (DBAPIError, OverflowError, MemoryError) as error:
        if not is_of_a_row(error):
            raise
        if len(judged) == 1:
            return [Settled(judged[0].message, judged[0].verdict, None)], [(judged[0].message, reason_of(error))]
    middle = len(judged) // 2
    settled, refused = settle_apart(engine, destination, tokens, judged[:middle], policy, now)
    more, more_refused = settle_apart(engine, destination, tokens, judged[middle:], policy, now)
    return settled + more, refused + more_refused
