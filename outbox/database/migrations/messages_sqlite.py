"""``outbox_messages`` on SQLite: rebuilt, because a CHECK cannot be added to a table that exists."""

from sqlalchemy import Connection, text

from outbox.database.migrations.mend import LAST_COUNTED_SEQ
from outbox.database.migrations.tables import (
    CREATE_MESSAGES,
    INDEXES,
    MESSAGES,
    NEW_COLUMNS,
    NEW_MESSAGES,
    SQLITE,
    constraints,
    rules,
    rules_of_new_columns,
)

COPIED = (
    "seq",
    "topic",
    "key",
    "version",
    "shard",
    "payload",
    "origin",
    "enqueued_at",
    "state",
    "attempts",
    "available_at",
    "last_error",
    "settled_at",
)
# A forged seq near the end of all numbers would end the sequence, and every later INSERT with it. On PostgreSQL a row's
# number does not move the sequence.
LONGEST_LEAP = 2**40
NO_LEAP = """
    CREATE TRIGGER outbox_messages_no_leap_by_{what} AFTER {when} ON outbox_messages
    WHEN new.seq > {leap} AND new.seq > {leap} + coalesce(
        (SELECT seq FROM sqlite_sequence WHERE name = 'outbox_messages'), 0)
    BEGIN SELECT RAISE(ABORT, 'seq leaps too far ahead of the last one given out'); END
"""
CRASHED = "relays in a row stopped while delivering it: [1-5]"


def lock(connection: Connection) -> None:
    """A writing transaction is alone from its start."""


def last_seq(connection: Connection) -> int:
    """The highest number given out, also to a row that was pruned; forged ones do not count."""
    query = f"""
        SELECT max((SELECT coalesce(max(seq), 0) FROM {MESSAGES} WHERE seq <= :last),
                   (SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = '{MESSAGES}' AND seq <= :last))
    """  # noqa: S608 - constants
    return int(connection.execute(text(query), {"last": LAST_COUNTED_SEQ}).scalar_one())


def set_last_seq(connection: Connection, seq: int) -> None:
    connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :name"), {"name": MESSAGES})
    connection.execute(
        text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"), {"name": MESSAGES, "seq": seq}
    )


def alter(connection: Connection) -> None:
    others = _of_others(connection)
    new_columns = [column.format(**SQLITE) for column in NEW_COLUMNS]
    more = ", ".join([*new_columns, *constraints(rules(connection) | rules_of_new_columns())])
    connection.exec_driver_sql(CREATE_MESSAGES.format(table=NEW_MESSAGES, more=more))
    names = ", ".join(COPIED)
    connection.exec_driver_sql(
        f"""
        INSERT INTO {NEW_MESSAGES} ({names}, crashes) SELECT {names},
            CASE WHEN settled_at IS NULL AND last_error GLOB '{CRASHED}' THEN substr(last_error, -1) + 0 ELSE 0 END
        FROM {MESSAGES}
        """  # noqa: S608 - constants
    )
    connection.exec_driver_sql(f"DROP TABLE {MESSAGES}")
    # Without this a view, or a trigger elsewhere, that names the table would stop the renaming: it is gone just now.
    connection.exec_driver_sql("PRAGMA legacy_alter_table=ON")
    connection.exec_driver_sql(f"ALTER TABLE {NEW_MESSAGES} RENAME TO {MESSAGES}")
    connection.exec_driver_sql("PRAGMA legacy_alter_table=OFF")
    for name, of in INDEXES.items():
        connection.exec_driver_sql(f"CREATE INDEX {name} ON {MESSAGES} {of}")
    for what, when in (("insert", "INSERT"), ("update", "UPDATE OF seq")):
        connection.exec_driver_sql(NO_LEAP.format(what=what, when=when, leap=LONGEST_LEAP))
    for statement in others:
        connection.exec_driver_sql(statement)


def _of_others(connection: Connection) -> list[str]:
    """Indexes and triggers that somebody else made on the table; dropping it takes them along."""
    rows = connection.execute(
        text("SELECT name, sql FROM sqlite_master WHERE tbl_name = :table AND type IN ('index', 'trigger')"),
        {"table": MESSAGES},
    )
    return [row.sql for row in rows if row.sql and row.name not in INDEXES]
