"""Whose a database is: the real gateway drops, at each start, all tables that it does not declare, ours among them."""

from sqlalchemy import Connection

MARKS = ("one_time_migrations", "__drizzle_migrations")
"""Tables in which the real gateway notes what it did to its schema. Other programs' tables are no mark."""
_NAMES = ", ".join(f"'{name}'" for name in MARKS)
# On PostgreSQL its library keeps one of them in a schema of that name. Other schemas are others' databases.
_FIND = {
    "sqlite": f"SELECT lower(name) FROM sqlite_master WHERE type = 'table' AND lower(name) IN ({_NAMES}) ORDER BY 1",  # noqa: S608 - ours
    "postgresql": f"""
        SELECT DISTINCT c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relname IN ({_NAMES})
            AND (n.nspname = 'drizzle' OR n.nspname = ANY (current_schemas(false))) ORDER BY 1
    """,  # noqa: S608 - ours
}
CURE = (
    "leave it to that program and name the socket that it serves, `--gateway unix:///PATH`; or stop that program, "
    "`relay init --take-over`, and never start the other program on it again"
)


def marks_in(connection: Connection) -> list[str]:
    return list(connection.exec_driver_sql(_FIND[connection.dialect.name]).scalars().all())


def of_others(connection: Connection) -> str:
    """What says that a database with marks is the real gateway's, and the cure."""
    return f"is another program's: it has the real gateway's {', '.join(marks_in(connection))}; {CURE}"
