"""Retention: what is settled and old goes; what waits or is dead never does."""

from datetime import timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy import event

from outbox.clock import now_ms
from outbox.message import Destination
from outbox.prune import ROWS_A_TRANSACTION, prune
from tests.conftest import write
from tests.outbox.conftest import Outbox
from tests.outbox.turns import transactions_before_anothers_turn

RETENTION = timedelta(days=7)


@pytest.mark.parametrize("state", ["delivered", "superseded"])
def test_what_was_settled_longer_ago_than_the_retention_goes(box: Outbox, state: str) -> None:
    with freeze_time("2024-01-08"):
        box.put_settled(state, now_ms() - 7 * 86_400_000 - 1, key="old")
        young = box.put_settled(state, now_ms() - 7 * 86_400_000, key="young")

        pruned = prune(box.engine, Destination.GATEWAY, RETENTION)

    assert pruned == 1
    assert [row["seq"] for row in box.rows()] == [young]


def test_what_waits_or_is_dead_never_goes_however_old(box: Outbox) -> None:
    box.put("a", enqueued_at=0)
    box.put("b", enqueued_at=0, state="retrying", available_at=0, attempts=9)
    box.put("c", enqueued_at=0, state="dead", settled_at=0)
    before = box.rows()

    pruned = prune(box.engine, Destination.GATEWAY, timedelta(0))

    assert pruned == 0
    assert box.rows() == before


def put_many_settled(box: Outbox, more: int) -> None:
    """One, and so many more."""
    box.put_settled("delivered", 1)
    columns = "topic, key, version, shard, payload, enqueued_at, state, settled_at"
    write(
        box.engine,
        f"INSERT INTO outbox_messages ({columns}) SELECT {columns} FROM outbox_messages,"
        f" (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {more})"
        " SELECT i FROM n)",
    )


@pytest.mark.only("sqlite", because="a PostgreSQL server has no lock that a writer of other rows waits for")
def test_another_writer_gets_its_turn_between_two_of_its_transactions(box: Outbox) -> None:
    put_many_settled(box, 6 * ROWS_A_TRANSACTION)

    turn, all_ = transactions_before_anothers_turn(
        box.engine, lambda: prune(box.engine, Destination.GATEWAY, RETENTION)
    )

    assert 0 < turn < all_ == 7


def test_many_rows_go_in_several_transactions(box: Outbox) -> None:
    put_many_settled(box, 2 * ROWS_A_TRANSACTION)
    commits: list[object] = []
    event.listen(box.engine, "commit", commits.append)

    pruned = prune(box.engine, Destination.GATEWAY, RETENTION)

    assert pruned == 2 * ROWS_A_TRANSACTION + 1
    assert box.rows() == []
    assert len(commits) >= 3
