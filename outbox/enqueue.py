"""Adding messages inside the caller's transaction, and the wake-up once that transaction has committed."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from outbox import statements
from outbox.clock import now_ms
from outbox.datagram import wake
from outbox.errors import OutboxFullError
from outbox.message import Origin, shard_of
from outbox.sqlite import sqlite_path

_WAKE = "outbox_database_to_wake"
_SAVEPOINT = "row_and_message"


@contextmanager
def with_its_message(session: Session) -> Iterator[Connection]:
    """What is written inside, a row and its message, stays or goes as one, even if the caller catches the error.

    Without it a caller that catches `OutboxFullError` and goes on would commit the row alone.
    """
    connection = session.connection()
    if connection.dialect.name == "sqlite" and not connection.connection.driver_connection.in_transaction:  # type: ignore[union-attr]
        # An engine that `configure_engine` has not seen: its driver would take the savepoint for the transaction.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    # Said ourselves: SQLAlchemy's own savepoint costs more than both rows.
    connection.exec_driver_sql(f"SAVEPOINT {_SAVEPOINT}")
    try:
        yield connection
    except BaseException:
        # Where the whole transaction is gone there is nothing to go back to, and the first error is the one to be seen.
        with suppress(SQLAlchemyError):
            connection.exec_driver_sql(f"ROLLBACK TO SAVEPOINT {_SAVEPOINT}")
            connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        raise
    connection.exec_driver_sql(f"RELEASE SAVEPOINT {_SAVEPOINT}")


def enqueue(
    session: Session, *, topic: str, key: str, version: int, payload: str, origin: Origin = Origin.LIVE
) -> None:
    """Adds one message in the session's transaction: it is delivered if and only if that transaction commits.

    ``version`` must grow with every change of the row that ``payload`` copies. Never commits. After the commit a
    wake-up is sent that cannot block or fail the caller. Raises `OutboxFullError` where the engine sets a limit.
    """
    enqueue_many(session, topic=topic, rows=[(key, version, payload)], origin=origin)


def enqueue_many(session: Session, *, topic: str, rows: Iterable[tuple[str, int, str]], origin: Origin) -> None:
    """`enqueue` for many (key, version, payload) of one topic."""
    now = now_ms()
    messages = [(topic, key, version, shard_of(key), payload, origin.value, now) for key, version, payload in rows]
    if not messages:
        return
    connection = session.connection()
    _refuse_beyond_limit(connection, len(messages))
    statements.insert_messages(connection, messages)
    _wake_at_commit(session, connection)


def _refuse_beyond_limit(connection: Connection, more: int) -> None:
    limit: int | None = connection.get_execution_options().get("outbox_max_unsettled")
    if limit is not None and statements.count_unsettled_up_to(connection, limit + 1) + more > limit:
        raise OutboxFullError(
            f"the outbox holds its limit of {limit} unsettled messages; nothing was enqueued. "
            "See `relay status` for why they are not drained"
        )


def _wake_at_commit(session: Session, connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        session.info[_WAKE] = sqlite_path(connection.engine)
    elif connection.get_execution_options().get("outbox_notify", True):
        statements.notify(connection)


# For every session of the process: listening to each that enqueues costs as much as the message.
@event.listens_for(Session, "after_transaction_end")
def _send_wake(session: Session, ended: SessionTransaction) -> None:
    # Fires for savepoints too; only the end of the outermost transaction makes the message visible to a relay.
    if ended.parent is not None:
        return
    path: Path | None = session.info.pop(_WAKE, None)
    if path is not None:
        wake(path)
