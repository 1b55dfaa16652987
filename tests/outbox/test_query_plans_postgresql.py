"""On PostgreSQL a relay's queries read few pages, through an index, whatever the statistics say."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, event

from outbox import SHARDS, writing
from tests.conftest import write
from tests.outbox.conftest import TOPIC, Outbox
from tests.outbox.test_query_plans import QUERIES

pytestmark = pytest.mark.only("postgresql", because="SQLite shows its plans in other words, and counts no pages")

FEW_PAGES = 30


def fill(box: Outbox, settled: int) -> None:
    """Three messages of each kind that waits and three dead ones, under a heap of settled ones."""
    states = {"delivered": settled, "pending": 3, "retrying": 3, "dead": 3}
    for state, number in states.items():
        settled_at = "1000" if state in ("delivered", "dead") else "NULL"
        write(
            box.engine,
            "INSERT INTO outbox_messages"
            " (topic, key, version, shard, payload, enqueued_at, state, settled_at, available_at)"
            f" SELECT '{TOPIC}', '{state}-' || n, 1, mod(n, {SHARDS}), '{{}}', 1, '{state}', {settled_at}, 1"
            f" FROM generate_series(1, {number}) AS n",
        )


def run(connection: Connection, name: str) -> list[dict[str, Any]]:
    """Runs the statements that the function sends, and says how each was done; changes nothing."""
    sent: list[tuple[str, Any]] = []

    def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "outbox_messages" in statement:
            sent.append((statement, parameters))

    with connection.begin_nested() as savepoint:
        event.listen(connection, "before_cursor_execute", note)
        QUERIES[name][1](connection)
        event.remove(connection, "before_cursor_execute", note)
        found = [
            connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters).scalar_one()
            for statement, parameters in sent
        ]
        savepoint.rollback()
    return [explained[0]["Plan"] for explained in found]


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


@pytest.mark.parametrize(
    ("settled", "analyzed"), [(20_000, "never"), (20_000, "before it was filled"), (1_000_000, "since")]
)
def test_each_query_reads_few_pages_through_an_index(box: Outbox, settled: int, analyzed: str) -> None:
    if analyzed == "before it was filled":
        write(box.engine, "ANALYZE outbox_messages")
    fill(box, settled)
    if analyzed == "since":
        write(box.engine, "ANALYZE outbox_messages")

    with writing(box.open(relay=True)) as connection:
        plans = {f"{name} {number}": plan for name in QUERIES for number, plan in enumerate(run(connection, name))}

    scans = {
        name: {node["Node Type"] for node in nodes(plan) if node.get("Relation Name") == "outbox_messages"}
        for name, plan in plans.items()
    }
    pages = {name: plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for name, plan in plans.items()}
    assert {name: found for name, found in scans.items() if not found & {"Index Scan", "Index Only Scan"}} == {}
    assert {name: found for name, found in scans.items() if found & {"Seq Scan", "Bitmap Heap Scan"}} == {}
    assert {name: number for name, number in pages.items() if number > FEW_PAGES} == {}
