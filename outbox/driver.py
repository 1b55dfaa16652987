"""Where the driver is used past SQLAlchemy, because that is several times faster; errors come out as SQLAlchemy's."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Executable
from sqlalchemy.exc import DBAPIError

from outbox.postgresql import first_line


def plain_rows(
    connection: Connection, query: Executable, given: Mapping[str, Any] | None = None
) -> list[tuple[Any, ...]]:
    """All rows as the driver gives them: making SQLAlchemy's own of a million takes seconds."""
    with connection.execute(query, given) as result, _errors_of_sqlalchemy(connection):
        # SQLite reads on while it is fetched from, and may only now meet what it cannot read.
        return list(result.cursor.fetchall()) if result.cursor is not None else []


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
    """Raises what a statement of SQLAlchemy's would raise, less the lines that quote the row."""
    base = connection.dialect.loaded_dbapi.Error
    try:
        yield
    except base as error:
        error.args = (first_line(error) or str(error),)
        raise DBAPIError.instance(None, None, error, base, hide_parameters=True, dialect=connection.dialect) from error
