"""The gateway's transaction around a batch, whatever it is a batch of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine

from gateway_store.identity import StoreFacts, count_batch
from outbox.database.engine import writing


@contextmanager
def counted_transaction(
    engine: Engine, admit: Callable[[StoreFacts], None], prove: Callable[[], None]
) -> Iterator[Connection]:
    """Counts the batch and commits; what ``admit`` raises at the start, or ``prove`` before COMMIT, rolls it back."""
    with writing(engine) as connection:
        admit(count_batch(connection))
        yield connection
        prove()
