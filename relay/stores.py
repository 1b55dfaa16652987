"""The two databases as they are found before they are used: what is there, whose it is, and whether it can be used.

Nothing is changed by that, for one may be another program's.
"""

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine

from gateway_store.identity import StoreFacts, store_facts
from outbox import Destination, FileMissingError, statements
from outbox.database.catalogue import tables_named
from outbox.database.files import no_folder, wal_of
from outbox.database.store_name import name_of
from outbox.database.untouched import PATIENCE_SECONDS, reading_untouched
from outbox.statements import DrainedInto
from relay.errors import UnreachableError
from relay.topics import MIRROR, SOURCE, Store
from relay.urls import open_existing, reaching, store_at, where_is


@dataclass(frozen=True, slots=True)
class Found:
    """One store as it was found."""

    store: Store
    named: str
    """As errors name it."""
    where: str
    missing: FileMissingError | None = None
    is_there: bool = False
    """Made by whichever release, or its table is there and can be adopted."""
    is_the_other: bool = False
    """It is the store of the other side."""
    is_owned: bool = False
    """It is another program's."""
    problem: str | None = None
    """What keeps it from being used as it is, and the cure."""
    can_be_compared: bool = False
    """Another program's, it has the rows all the same."""
    into: DrainedInto | None = None
    """The gateway that the assistant's outbox remembers."""
    facts: StoreFacts | None = None
    """What the gateway's store says of itself."""

    @property
    def in_words(self) -> str:
        return f"{self.named} {self.problem}"

    @property
    def nothing(self) -> str | None:
        """What is not there, in words without a cure; None where there is a store, or what must be left alone."""
        if self.missing is not None:
            return f"no database at {self.where}{no_folder(self.missing.path) or ''}"
        return None if self.is_there or self.is_the_other or self.is_owned else f"no store in {self.where}"

    @property
    def log_alone(self) -> Path | None:
        """Its log, where that is all there is of it."""
        log = None if self.missing is None else wal_of(self.missing.path)
        return log if log is not None and log.exists() else None

    @property
    def never_made(self) -> str:
        """`nothing`, and the cure where nobody remembers that there was a store."""
        if self.log_alone is not None:
            return f"{self.nothing}, and its log {self.log_alone} is there: put the database back beside it"
        if self.missing is None:
            return self.in_words
        return f"{self.nothing}" if no_folder(self.missing.path) else f"{self.nothing}; `relay init` creates it"


def examine(url: str, store: Store) -> Found:
    """Raises `UnreachableError` where it cannot be read."""
    engine = open_existing(url, store.option)
    try:
        with reaching(store_at(url, store.option)):
            return examined(engine, store)
    finally:
        engine.dispose()


def opened(found: Found, url: str) -> Engine:
    """An engine on a store that is there; raises `UnreachableError` unless it has the shape that it needs."""
    if found.problem is not None:
        raise UnreachableError(found.in_words)
    return open_existing(url, found.store.option)


def _swapped(connection: Connection, store: Store) -> str | None:
    """A database that has both is what somebody wanted."""
    other = SOURCE if store is MIRROR else MIRROR
    if _is_there(connection, store) or not _is_there(connection, other):
        return None
    return (
        f"is {other.name}; see whether the two URLs are swapped, or name another database, in which `relay init` makes "
        "what is missing"
    )


def _is_there(connection: Connection, store: Store) -> bool:
    return bool(tables_named(connection, (store.scripts.version_table, store.scripts.table)))


def examined(engine: Engine, store: Store, patience: float = PATIENCE_SECONDS) -> Found:
    """As `examine`, with the errors of the database itself."""
    where = where_is(engine)
    named = name_of(engine) or f"{store.name} {where}"
    try:
        with reading_untouched(engine, patience) as connection:
            problem = _swapped(connection, store) or store.problem(connection)
            is_ready, is_owned = problem is None, store.is_of_others(connection)
            return Found(
                store,
                named,
                where,
                is_there=_is_there(connection, store),
                is_the_other=_swapped(connection, store) is not None,
                is_owned=is_owned,
                can_be_compared=is_owned and store.rows_problem(connection) is None,
                problem=problem,
                into=statements.drained_into(connection, Destination.GATEWAY) if is_ready and store is SOURCE else None,
                facts=store_facts(connection) if is_ready and store is MIRROR else None,
            )
    except FileMissingError as error:
        return Found(store, named, where, missing=error)
