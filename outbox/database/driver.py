"""Where the driver is used past SQLAlchemy, because that is several times faster; errors come out as SQLAlchemy's."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Executable, text
from sqlalchemy.exc import (
    DatabaseError,
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)

from outbox.database.error_text import plain_text

T = TypeVar("T")

# PostgreSQL's codes for what a trigger raises, and for text too long for an index: the driver's classes hide them.
_RAISED, _TOO_LONG = "P0", "54000"
FIRST_SQLITE_WITH_OCTET_LENGTH = (3, 43)
_OCTET_LENGTH = re.compile(r"octet_length\(([a-z_.]+)\)")
_LOSSLESS = partial(str, encoding="utf-8", errors="surrogateescape")


def plain_rows(
    connection: Connection, query: Executable, given: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them, with `exact_text`: making SQLAlchemy's own of a million takes seconds."""

    def read() -> list[tuple[Any, ...]]:
        with connection.execute(query, given) as result, _errors_of_sqlalchemy(connection):
            # SQLite reads on while it is fetched from, and may only now meet what it cannot read.
            return list(result.cursor.fetchall()) if result.cursor is not None else []

    return exact_text(connection, read)


def exact_text(connection: Connection, read: Callable[[], T]) -> T:
    """What ``read`` reads, its text unaltered: bytes that are no UTF-8 come as lone surrogates.

    Our engines put U+FFFD in their place, and two texts that differ would be taken for the same.
    """
    if connection.dialect.name != "sqlite":
        return read()
    driver: Any = connection.connection.driver_connection
    usual = driver.text_factory
    try:
        # The driver's own decoding is by far the fastest, and text that it cannot read is rare.
        driver.text_factory = str
        return read()
    except DBAPIError as error:
        if "decode to UTF-8" not in str(error.orig):
            raise
        driver.text_factory = _LOSSLESS
        return read()
    finally:
        driver.text_factory = usual


def is_plain_text(value: object) -> bool:
    """Whether it is text that every database and every gateway can store and find again."""
    if not isinstance(value, str):
        return False
    return value.isprintable() or ("\x00" not in value and not any("\ud800" <= one <= "\udfff" for one in value))


def has_octet_length(connection: Connection) -> bool:
    """Whether SQL can tell the size of a text without reading it."""
    if connection.dialect.name != "sqlite":
        return True
    version: tuple[int, ...] = connection.dialect.loaded_dbapi.sqlite_version_info
    return version >= FIRST_SQLITE_WITH_OCTET_LENGTH


def in_old_words(sql: str) -> str:
    """The same for SQLite before 3.43, which must read a text to tell its size; ``length`` of a text ends at a NUL."""
    return _OCTET_LENGTH.sub(r"length(CAST(\1 AS BLOB))", sql)


class Sized:
    """A query that asks for sizes, ``octet_length(column)``, in the words of each database.

    ``{among_shards}`` in it stands for the test whether a number is among ``:shards``.
    """

    def __init__(self, sql: str) -> None:
        of_sqlite = sql.replace("{among_shards}", "IN (SELECT value FROM json_each(:shards))")
        self._sqlite = text(of_sqlite)
        self._old_sqlite = text(in_old_words(of_sqlite))
        self._postgresql = text(sql.replace("{among_shards}", "= ANY(:shards)"))

    def rows(self, connection: Connection, **given: Any) -> list[tuple[Any, ...]]:
        """As `plain_rows` gives them."""
        if connection.dialect.name != "sqlite":
            return plain_rows(connection, self._postgresql, given)
        if "shards" in given:
            given["shards"] = json.dumps(given["shards"])
        return plain_rows(connection, self._sqlite if has_octet_length(connection) else self._old_sqlite, given)


def is_of_a_row(error: Exception) -> bool:
    """Whether the table refuses a row, or it is too large to be written, and not the database all of them."""
    if isinstance(error, IntegrityError | DataError | InterfaceError | OverflowError | MemoryError):
        return True
    code: str = getattr(getattr(error, "orig", None), "sqlstate", None) or ""
    # A code that the driver has no class for is one of a trigger's own.
    return code.startswith((_RAISED, _TOO_LONG)) or (bool(code) and type(error) is DatabaseError)


def is_of_the_database(error: DBAPIError) -> bool:
    """Whether it is the database that cannot work now, whatever the row; to be asked of what is not `is_of_a_row`."""
    if isinstance(error, OperationalError):
        return True
    if isinstance(error, InternalError | ProgrammingError):
        # PostgreSQL: a transaction made read-only or ended, a table or a right that is not there. Class P0 is a
        # trigger's own doing.
        return getattr(error.orig, "sqlstate", None) is not None
    # A damaged SQLite file, or one that is no database, raises exactly this class; its subclasses are about a row.
    return type(error) is DatabaseError


def takes_copy(connection: Connection, table: str) -> bool:
    """PostgreSQL: whether rows can be added by COPY. Not through an asyncio driver, nor under row security.

    Gives the transaction its number. COPY draws from sequences before it has one, and `Horizon` would take those rows
    for a transaction's that has ended.
    """
    # Imported here: the driver is an extra.
    import psycopg

    if not isinstance(connection.connection.driver_connection, psycopg.Connection):
        return False
    asked = "SELECT NOT row_security_active(%s::regclass), pg_current_xact_id()"
    return bool(connection.exec_driver_sql(asked, (table,)).one()[0])


def copy_rows(connection: Connection, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
    """``COPY ... FROM STDIN`` in the caller's transaction, where `takes_copy`."""
    driver: Any = connection.connection.driver_connection
    with _errors_of_sqlalchemy(connection), driver.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        for row in rows:
            copy.write_row(row)


@contextmanager
def _errors_of_sqlalchemy(connection: Connection) -> Iterator[None]:
    """Raises what a statement of SQLAlchemy's would raise, less the lines that quote the row and less hashes."""
    base = connection.dialect.loaded_dbapi.Error
    try:
        yield
    except base as error:
        error.args = (plain_text(error),)
        raise DBAPIError.instance(None, None, error, base, hide_parameters=True, dialect=connection.dialect) from error
