"""Adding messages inside the caller's transaction, and the wake-up once that transaction has committed."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, TableClause, TwoPhaseTransaction, Update, event, table, update
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from outbox import statements
from outbox.clock import now_ms
from outbox.counted import counted
from outbox.database.sequence import sequence_error
from outbox.database.sqlite import file_of
from outbox.errors import OutboxFullError, SchemaOutdatedError
from outbox.message import Destination, Origin, shard_of
from outbox.rules import check_message, check_topic
from outbox.wakeups.datagram import wake

_WAKE = "outbox_databases_to_wake"
_SAVEPOINT = "row_and_message"
_MESSAGES = table("outbox_messages")


def connection_to_write(session: Session, rows: TableClause) -> Connection:
    """The connection that the session has for a write to a table, asked of it as for any statement: where it has
    several, all that must commit together uses this one."""
    return session.connection(bind_arguments={"clause": _write_to(rows)})


@cache
def _write_to(rows: TableClause) -> Update:
    """An UPDATE also for those who insert: the `get_bind` in SQLAlchemy's documentation takes an INSERT that no flush
    makes for a read."""
    return update(rows)


@contextmanager
def with_its_message(session: Session, rows: TableClause) -> Iterator[Connection]:
    """What is written inside, a row of the table and its message, stays or goes as one, even if the caller catches the
    error. Both are written on the connection given.

    Without it a caller that catches `OutboxFullError` and goes on would commit the row alone.
    """
    connection = connection_to_write(session, rows)
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
    session: Session,
    *,
    topic: str,
    key: str,
    version: int,
    payload: str,
    origin: Origin = Origin.LIVE,
    bind_arguments: Mapping[str, Any] | None = None,
    destination: Destination = Destination.GATEWAY,
) -> None:
    """Adds one message in the session's transaction: it is delivered if and only if that transaction commits.

    ``version`` must grow with every change of the row that ``payload`` copies. Never commits. After the commit a
    wake-up is sent that cannot block or fail the caller. Raises `InvalidMessageError` for what no message may be, and
    `OutboxFullError` where the engine sets a limit.

    A session of several databases has a transaction in each, and they do not commit as one: the message must be where
    the row is. ``bind_arguments`` are those of `Session.connection`; ``{"mapper": Order}`` gives the connection of the
    orders. Without them it is the session's for a write to ``outbox_messages``.
    """
    if bind_arguments is None:
        connection = connection_to_write(session, _MESSAGES)
    else:
        connection = session.connection(bind_arguments={**bind_arguments})
    enqueue_many(session, connection, destination, topic=topic, rows=[(key, version, payload)], origin=origin)


def enqueue_many(
    session: Session,
    connection: Connection,
    destination: Destination,
    *,
    topic: str,
    rows: Iterable[tuple[str, int, str]],
    origin: Origin,
) -> None:
    """`enqueue` for many (key, version, payload) of one topic, on the session's connection that wrote their rows."""
    now = now_ms()
    messages = []
    for key, version, payload in rows:
        check_message(key, version, payload)
        messages.append((topic, key, version, shard_of(key), payload, origin.value, now))
    if not messages:
        return
    check_topic(topic)
    _refuse_beyond_limit(connection, destination, len(messages))
    if destination is not Destination.GATEWAY and not statements.knows_destinations(connection):
        raise SchemaOutdatedError("the database has the outbox of an earlier release; `relay init` upgrades it")
    with _sequence_errors(connection):
        statements.insert_messages(connection, destination, messages)
    _wake_at_commit(session, connection)


@contextmanager
def _sequence_errors(connection: Connection) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        found = sequence_error(connection, error)
        if _has_ended(connection):
            # SQLite rolled all of it back. What the caller wrote next would be committed statement by statement.
            connection.invalidate(error)
        if found is not None:
            raise found from error
        raise


def _has_ended(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite" and not connection.connection.driver_connection.in_transaction  # type: ignore[union-attr]


def _refuse_beyond_limit(connection: Connection, destination: Destination, more: int) -> None:
    limit: int | None = connection.get_execution_options().get("outbox_max_unsettled")
    if limit is not None and statements.count_unsettled_up_to(connection, destination, limit + 1) + more > limit:
        raise OutboxFullError(
            f"the outbox holds its limit of {counted(limit, 'unsettled message', 'unsettled messages')}; nothing was "
            "enqueued. "
            "See `relay status` for why they are not drained"
        )


def _wake_at_commit(session: Session, connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        path = file_of(connection)
        if path is not None:
            session.info.setdefault(_WAKE, set()).add(path)
    elif connection.get_execution_options().get("outbox_notify", True) and not _is_two_phase(connection):
        statements.notify(connection)


def _is_two_phase(connection: Connection) -> bool:
    """PostgreSQL prepares no transaction that notifies; its messages are found by polling."""
    return isinstance(connection.get_transaction(), TwoPhaseTransaction)


# For every session of the process: listening to each that enqueues costs as much as the message.
@event.listens_for(Session, "after_transaction_end")
def _send_wake(session: Session, ended: SessionTransaction) -> None:
    # Fires for savepoints too; only the end of the outermost transaction makes the message visible to a relay.
    if ended.parent is not None:
        return
    paths: set[Path] = session.info.pop(_WAKE, set())
    for path in paths:
        wake(path)
