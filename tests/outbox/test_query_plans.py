"""The hot queries use the partial indexes: none reads the heap of settled messages."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, event

from outbox import statements, writing
from outbox.message import Destination
from outbox.statements import change
from tests.outbox.conftest import TOPIC, Outbox

SHARDS = range(64)
GATEWAY = Destination.GATEWAY
OF_THE_TABLE = ("outbox_messages", "m", "n")
QUERIES: dict[str, tuple[str, Callable[[Connection], object]]] = {
    "pending": ("ix_outbox_pending", lambda c: statements.pending(c, GATEWAY, SHARDS, 100, 10**6)),
    "retries_due": (
        "ix_outbox_retrying",
        lambda c: statements.retries_due(c, GATEWAY, SHARDS, 100, 10**6, now=5, too_far=50),
    ),
    "anything_due": ("ix_outbox_pending", lambda c: statements.anything_due(c, GATEWAY, 5, 50)),
    "mark_delivered": (
        "INTEGER PRIMARY KEY",
        lambda c: statements.mark_delivered(c, GATEWAY, [(1, TOPIC, "k", 1, 1, 0, 1)]),
    ),
    "supersede": ("ix_outbox_key", lambda c: change._OPEN.run(c, ["k"], "gateway", TOPIC)),
    "mark_retrying": (
        "INTEGER PRIMARY KEY",
        lambda c: statements.mark_retrying(c, GATEWAY, [(1, 1, 1, 1, "no", 0, 1, 1)]),
    ),
    "mark_dead": ("INTEGER PRIMARY KEY", lambda c: statements.mark_dead(c, GATEWAY, [(1, 1, 1, 1, "no", 0, 1)])),
    "delete_settled_before": ("ix_outbox_settled", lambda c: statements.delete_settled_before(c, GATEWAY, 5, 10)),
    "oldest_unsettled_at": ("ix_outbox_key", lambda c: statements.oldest_unsettled_at(c, GATEWAY)),
    "unsettled_since": ("ix_outbox_key", lambda c: statements.unsettled_since(c, GATEWAY, 5)),
    "unsettled_keys": ("ix_outbox_key", lambda c: statements.unsettled_keys(c, GATEWAY, TOPIC, ["a", "b"])),
    "revive_dead": ("ix_outbox_key", lambda c: statements.revive_dead(c, 1, 1)),
    "one_unsettled": ("INTEGER PRIMARY KEY", lambda c: statements.one_unsettled(c, GATEWAY, 1)),
}


def plan_of(box: Outbox, name: str) -> list[str]:
    """The steps of the statements that the function sends, as SQLite would run it on a filled table."""
    sent: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "outbox_messages" in statement:
            sent.append((statement, parameters))

    with writing(box.engine) as connection:
        event.listen(connection, "before_cursor_execute", note)
        QUERIES[name][1](connection)
        event.remove(connection, "before_cursor_execute", note)
        return [
            row.detail
            for statement, parameters in sent
            for row in connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {statement}", parameters[0] if isinstance(parameters, list) else parameters
            )
        ]


@pytest.mark.only("sqlite", because="PostgreSQL tells its plans in other words")
@pytest.mark.parametrize("name", QUERIES)
def test_a_query_reads_through_its_index_and_not_the_whole_table(box: Outbox, name: str) -> None:
    # Enough of both kinds that reading the table would be the wrong choice.
    for number in range(3):
        box.put(f"waits-{number}")
        box.put_settled("delivered", 1, key=f"settled-{number}")
        box.put(f"again-{number}", state="retrying", available_at=number * 100)
    box.put_settled("dead", 1, key="dead")

    plan = plan_of(box, name)

    # Others read what the statement was given, or what one of its parts has found.
    reads = [step for step in plan if step.startswith(("SCAN", "SEARCH")) and step.split()[1] in OF_THE_TABLE]
    assert reads
    assert all(" USING " in step for step in reads), plan
    assert any(QUERIES[name][0] in step for step in reads), plan
