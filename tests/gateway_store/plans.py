"""How PostgreSQL would run what the product sends, were its tables large."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event

from outbox import reading

# Without this it would read the whole table, as long as it is small.
FOR_MANY_ROWS = "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"


def plan_of(engine: Engine, work: Callable[[Connection], object]) -> list[str]:
    """The steps of the first statement that ``work`` sends."""
    sent: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        sent.append((statement, parameters))

    with reading(engine) as connection:
        connection.exec_driver_sql(FOR_MANY_ROWS)
        event.listen(connection, "before_cursor_execute", note)
        work(connection)
        event.remove(connection, "before_cursor_execute", note)
        (statement, parameters), *_ = sent
        plan = connection.exec_driver_sql(f"EXPLAIN (COSTS OFF) {statement}", parameters)
        return [row[0].strip() for row in plan]
