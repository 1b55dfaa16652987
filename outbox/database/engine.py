"""Engines set up as the promises need, on SQLite and on PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from outbox.database import postgresql, sqlite
from outbox.database.error_text import hide_rows
from outbox.database.files import place_of
from outbox.database.forks import protect
from outbox.database.opened import opened_by
from outbox.database.store_name import note_store
from outbox.errors import OutboxError, UnsupportedDriverError

BUSY_TIMEOUT_SECONDS = 5.0
SERVED_DRIVERS = {"sqlite": ("pysqlite", "aiosqlite"), "postgresql": ("psycopg",)}
LONGEST_LOOK_SECONDS = 0.11

_READS = "outbox_only_reads"

T = TypeVar("T")


def open_engine(
    url: str | URL,
    *,
    create: bool = True,
    busy_timeout: float = BUSY_TIMEOUT_SECONDS,
    relay: bool = False,
    max_unsettled: int | None = None,
    notify: bool = True,
    module: ModuleType | None = None,
    cache_mib: int | None = None,
) -> Engine:
    """An engine on which every transaction is a writing one unless `reading` says otherwise.

    ``busy_timeout``, in seconds, bounds the wait for a lock. ``max_unsettled`` limits the outbox for all that is
    enqueued through this engine (`OutboxFullError`). Parameters never appear in its errors, so no hash or token reaches
    a log. Raises `ValueError` for a URL that is neither ``sqlite:///PATH`` nor ``postgresql+psycopg://...``.

    A child of a fork makes connections of its own (`InheritedConnectionError` where it uses its parent's).

    SQLite: the file is the one that the URL leads to now, whatever becomes of the working directory and of links; a
    commit to one that is replaced meanwhile raises `OutcomeUnknownError`. ``BEGIN IMMEDIATE``, WAL,
    ``synchronous=FULL``, foreign keys on, a new file is created with mode 0600; with ``create=False`` a missing file
    raises `DatabaseMissingError` when a connection is made. ``module`` is the driver: `pysqlite3` where it is
    installed, unless given. A process must use one driver only for one file: the locks of two do not see each other,
    and commits can be lost. Pass ``sqlite3`` in a process that opens the same file through aiosqlite or by itself.
    ``cache_mib`` is what each connection keeps in memory, about 2 unless given. A ``relay``, or any other that
    mirrors, copies the log into the database before it gets so long that the daemon's commits must.

    PostgreSQL: READ COMMITTED, whatever the server's default; nothing is kept in the session, so a transaction-mode
    pooler may stand between. With ``notify=False`` no NOTIFY is sent with what is enqueued, and only polling finds it.
    A ``relay``'s transactions are short look-ups, one after the other: the server ends one that stands still, with
    others behind its locks, and reads by the indexes whatever its statistics say.
    """
    url = make_url(url)
    options = {"outbox_max_unsettled": max_unsettled, "outbox_notify": notify}
    match url.get_backend_name():
        case "sqlite" if url.drivername in ("sqlite", "sqlite+pysqlite"):
            place = place_of(url)
            url = url if place is None else url.set(database=place.name)
            engine = create_engine(
                url,
                module=module or sqlite.sqlite_module(),
                hide_parameters=True,
                connect_args={"timeout": busy_timeout},
                execution_options=options,
            )
            sqlite.set_up(engine, place, create=create, relay=relay, cache_mib=cache_mib)
            _begin_with(engine, partial(sqlite.begin_writing, patience=busy_timeout), "BEGIN DEFERRED")
        case "postgresql" if url.drivername == postgresql.DRIVER:
            engine = create_engine(
                url,
                hide_parameters=True,
                # A relay's own look at the connection is watched.
                pool_pre_ping=not relay,
                connect_args=postgresql.CONNECT_ARGS,
                execution_options=options,
            )
            postgresql.set_up(engine)
            protect(engine)
            if relay:
                postgresql.watch(engine)
            _begin_with(engine, postgresql.begin_writing(busy_timeout, relay), postgresql.begin_reading(relay))
        case _:
            raise UnsupportedDriverError(
                f"cannot open a {url.drivername} database; use sqlite:///PATH or {postgresql.DRIVER}://HOST/NAME"
            )
    return engine


def configure_engine(engine: Engine, *, create: bool = True) -> None:
    """Gives an engine that was made elsewhere the settings of `open_engine`; call it before the first connection.

    For asyncio: ``configure_engine(async_engine.sync_engine)``. A child of a fork makes connections of its own. SQLite
    without it: a savepoint that is released as a transaction's first statement commits, and a later rollback undoes
    nothing. On PostgreSQL transactions stay as the engine has them. Raises `UnsupportedDriverError` for another driver
    than Python's or pysqlite3's, aiosqlite and psycopg.
    """
    _refuse_unsupported(engine)
    # An error of a failed statement would show the hashes that it was given.
    engine.hide_parameters = True
    if engine.dialect.name == "sqlite":
        sqlite.set_up(engine, place_of(engine.url), create=create)
        # A deferred transaction that reads, then writes, fails at once when another one wrote in between.
        _begin_with(engine, sqlite.BEGIN_IMMEDIATE, "BEGIN DEFERRED")
    else:
        hide_rows(engine)
        protect(engine)


def _refuse_unsupported(engine: Engine) -> None:
    served = SERVED_DRIVERS.get(engine.dialect.name, ())
    if engine.dialect.driver not in served:
        raise UnsupportedDriverError(
            f"cannot serve an engine of {engine.dialect.name}+{engine.dialect.driver}; make it with sqlite://, "
            f"sqlite+aiosqlite:// or {postgresql.DRIVER}://"
        )


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """One transaction that may write: commits at the end, rolls back on an exception.

    SQLite: holds the write lock from its start. PostgreSQL: what reads in order to write locks what it reads.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except (DBAPIError, OutboxError) as error:
        note_store(error, engine)
        raise


def once_more_if_cut_off(work: Callable[[], T]) -> T:
    """Does ``work``, and again if its connection had ended: a relay's, used a moment ago, is not asked before its use.

    ``work`` must be harmless to repeat: it may have committed.
    """
    try:
        return work()
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        return work()


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """One consistent snapshot without a lock. Keep it short: an open one stops checkpoints, or vacuuming."""
    try:
        with read_only(engine).begin() as connection:
            yield connection
    except (DBAPIError, OutboxError) as error:
        note_store(error, engine)
        raise


def read_only(engine: Engine) -> Engine:
    """The same engine and pool, for transactions that only read and so must not queue for the write lock."""
    return engine.execution_options(**{_READS: True})


def takes_writes(connection: Connection) -> bool:
    """False on a standby, or where the server is set to read-only; asked in a writing transaction."""
    if connection.dialect.name == "sqlite":
        return True
    return bool(connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "off")


def let_others_write(engine: Engine, took_seconds: float) -> None:
    """A pause between two long-ish writing transactions of one task, at least as long as the last of them took.

    SQLite's lock is no queue: who waits for it looks again every 100 ms at worst, and a loop that takes it again at
    once would be there first each time, until the others' patience ends. PostgreSQL needs none.
    """
    if engine.dialect.name == "sqlite":
        threading.Event().wait(max(LONGEST_LOOK_SECONDS, took_seconds))


def _begin_with(engine: Engine, to_write: str | Callable[[Connection], None], to_read: str) -> None:
    def begin(connection: Connection, *_: object) -> None:
        reads = bool(connection.get_execution_options().get(_READS))
        opened = opened_by(connection.info)
        if opened is not None:
            opened.writes = not reads
        if reads:
            connection.exec_driver_sql(to_read)
        elif isinstance(to_write, str):
            connection.exec_driver_sql(to_write)
        else:
            to_write(connection)

    event.listen(engine, "begin", begin)
    # The first phase of two begins like any other transaction.
    event.listen(engine, "begin_twophase", begin)
