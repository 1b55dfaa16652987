"""``outbox_messages`` on PostgreSQL: altered in place."""

from sqlalchemy import Connection, text

from outbox.database.migrations.mend import LAST_COUNTED_SEQ
from outbox.database.migrations.tables import (
    INDEXES,
    MESSAGES,
    NEW_COLUMNS,
    POSTGRESQL,
    constraints,
    rules,
    rules_of_new_columns,
)

SEQUENCE = f"{MESSAGES}_seq_seq"
CRASHED = "^relays in a row stopped while delivering it: [1-5]$"


def lock(connection: Connection) -> None:
    """Waits for transactions that have enqueued; who comes later waits for the upgrade."""
    connection.exec_driver_sql(f"LOCK TABLE {MESSAGES} IN ACCESS EXCLUSIVE MODE")


def last_seq(connection: Connection) -> int:
    """The highest number given out, also to a row that was pruned; forged ones do not count."""
    query = f"""
        SELECT greatest((SELECT max(seq) FROM {MESSAGES} WHERE seq <= :last),
                        (SELECT last_value FROM {SEQUENCE} WHERE is_called AND last_value <= :last), 0)
    """  # noqa: S608 - constants
    return int(connection.execute(text(query), {"last": LAST_COUNTED_SEQ}).scalar_one())


def set_last_seq(connection: Connection, seq: int) -> None:
    # Where nothing was ever given out, the sequence stays as it is: it cannot be set to 0.
    if seq:
        connection.execute(text(f"SELECT setval('{SEQUENCE}', :seq)"), {"seq": seq})


def alter(connection: Connection) -> None:
    columns = [f"ADD COLUMN {column.format(**POSTGRESQL)}" for column in NEW_COLUMNS]
    checks = [f"ADD {one}" for one in constraints(rules(connection) | rules_of_new_columns())]
    connection.exec_driver_sql(f"ALTER TABLE {MESSAGES} {', '.join(columns + checks)}")
    connection.exec_driver_sql(
        f"""
        UPDATE {MESSAGES} SET crashes = CAST(right(last_error, 1) AS bigint)
        WHERE state IN ('pending', 'retrying', 'dead') AND settled_at IS NULL AND last_error ~ '{CRASHED}'
        """  # noqa: S608 - constants
    )
    for name, of in INDEXES.items():
        connection.exec_driver_sql(f"DROP INDEX {name}")
        connection.exec_driver_sql(f"CREATE INDEX {name} ON {MESSAGES} {of}")
