"""Which texts a database can keep: all of them only in UTF-8."""

from sqlalchemy import Connection

from outbox.errors import SchemaRefusedError
from outbox.redact import reason_of

# PostgreSQL's codes for text that its encoding has no characters for.
_UNTRANSLATABLE = ("22P05", "22021")


def encoding_of(connection: Connection) -> str:
    """By the database's own name for it."""
    asked = "PRAGMA encoding" if connection.dialect.name == "sqlite" else "SHOW server_encoding"
    return str(connection.exec_driver_sql(asked).scalar_one())


def storable(connection: Connection, text: str) -> str:
    """Of what this program says itself what the database can keep: where that is not every text, ASCII with escapes."""
    if connection.dialect.name == "sqlite":
        return text
    encoding = connection.connection.driver_connection.info.parameter_status("server_encoding")  # type: ignore[union-attr]
    return text if _is_utf8(encoding or "UTF8") else text.encode("ascii", "backslashreplace").decode()


def storage_warning(connection: Connection) -> str | None:
    """What is wrong with a database that holds a store already, and the cure; None if it can keep every text."""
    encoding = encoding_of(connection)
    return None if _is_utf8(encoding) else f"{_problem(connection, encoding)}: {_cure(connection, move=True)}"


def refuse_for_new_store(connection: Connection) -> None:
    """Raises `SchemaRefusedError` for a database that would refuse some texts later, one message at a time."""
    encoding = encoding_of(connection)
    if not _is_utf8(encoding):
        raise SchemaRefusedError(
            f"{_problem(connection, encoding)}; {_cure(connection, move=False)}. Nothing was changed"
        )


def explained(connection: Connection, error: Exception) -> str:
    """The reason for which a row was refused, and the encoding where it is that: the server's words may not name it."""
    reason = reason_of(error)
    if getattr(getattr(error, "orig", None), "sqlstate", None) in _UNTRANSLATABLE:
        encoding = encoding_of(connection)
        if not _is_utf8(encoding):
            return f"{reason}; {_problem(connection, encoding)}: {_cure(connection, move=True)}"
    return reason


def _is_utf8(encoding: str) -> bool:
    return encoding.upper().replace("-", "") == "UTF8"


def _problem(connection: Connection, encoding: str) -> str:
    name = connection.engine.url.database
    if connection.dialect.name == "sqlite":
        return f"{name} is a database in {encoding}, which orders ids otherwise than the other store does"
    return f"the database {name} is in {encoding}, not UTF8, and cannot keep every text"


def _cure(connection: Connection, *, move: bool) -> str:
    if connection.dialect.name == "sqlite":
        return "move it to a new file, in UTF-8" if move else "use a new file"
    made = "create it with `createdb -E UTF8 -T template0 NAME`"
    return f"{made} and move the tables there with pg_dump" if move else made
