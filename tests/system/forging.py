"""Rows written past the rules of their table, as a database of an earlier release or another program may hold them."""

from collections.abc import Mapping

from sqlalchemy import Engine

from outbox import writing


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def insert_unchecked(engine: Engine, table: str, columns: Mapping[str, str]) -> None:
    """Adds a row of ``columns``, each given as SQL. On PostgreSQL the table has no CHECK from then on."""
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join(columns.values())})"
    with writing(engine) as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA ignore_check_constraints=ON")
            connection.exec_driver_sql(statement)
            connection.exec_driver_sql("PRAGMA ignore_check_constraints=OFF")
            return
        checks = f"SELECT conname FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'c'"
        for name in connection.exec_driver_sql(checks).scalars().all():
            connection.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        connection.exec_driver_sql(statement.replace("%", "%%"))
