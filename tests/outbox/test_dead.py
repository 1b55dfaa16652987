"""Dead letters can be listed, looked at, and made pending again."""

import pytest
from freezegun import freeze_time

from outbox import reading
from outbox.clock import now_ms
from outbox.dead import list_dead, retry_all_dead, retry_dead, show_message
from outbox.message import Destination
from tests.conftest import write
from tests.outbox.conftest import Outbox
from tests.outbox.turns import transactions_before_anothers_turn


def put_dead(box: Outbox, key: str, version: int = 1) -> int:
    return box.put(key, version, state="dead", settled_at=5, attempts=7, last_error="no such contact", enqueued_at=1)


def test_the_list_holds_every_dead_letter_without_its_payload(box: Outbox) -> None:
    box.put("waits")
    seq = put_dead(box, "a")
    box.put_settled("delivered", 5, key="done")

    (dead,) = list_dead(box.engine, Destination.GATEWAY)

    assert dead == {
        "seq": seq,
        "topic": "letter",
        "key": "a",
        "version": 1,
        "origin": "live",
        "enqueued_at": 1,
        "attempts": 7,
        "last_error": "no such contact",
        "settled_at": 5,
    }


def put_many_dead(box: Outbox, more: int) -> None:
    """One, and so many more."""
    put_dead(box, "a")
    columns = "topic, key, version, shard, payload, enqueued_at, state, settled_at"
    write(
        box.engine,
        f"INSERT INTO outbox_messages ({columns}) SELECT topic, 'z' || (20000 - i), version, shard, payload,"
        " enqueued_at, state, settled_at FROM outbox_messages,"
        f" (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {more}) SELECT i FROM n)",
    )


@pytest.mark.only("sqlite", because="a PostgreSQL server has no lock that a writer of other rows waits for")
def test_another_writer_gets_its_turn_while_all_are_retried(box: Outbox) -> None:
    put_many_dead(box, 3000)

    turn, all_ = transactions_before_anothers_turn(box.engine, lambda: retry_all_dead(box.engine, Destination.GATEWAY))

    assert 0 < turn < all_ == 7


def test_a_list_longer_than_a_page_is_complete_and_in_order(box: Outbox) -> None:
    put_many_dead(box, 1100)

    seqs = [dead["seq"] for dead in list_dead(box.engine, Destination.GATEWAY)]

    assert seqs == sorted(seqs)
    assert len(seqs) == 1101


def test_no_transaction_is_open_while_the_list_is_looked_through(box: Outbox) -> None:
    put_dead(box, "a")
    dead = list_dead(box.engine, Destination.GATEWAY)
    next(dead)

    assert box.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


def test_one_message_is_shown_whole_in_any_state(box: Outbox) -> None:
    seq = box.put(payload='{"a":1}')

    with reading(box.engine) as connection:
        shown, none = show_message(connection, seq), show_message(connection, seq + 1)

    assert shown == box.row(seq)
    assert none is None


def test_a_retried_dead_letter_is_as_if_enqueued_now(box: Outbox) -> None:
    seq = put_dead(box, "a")

    with freeze_time("2024-01-01"):
        retried = retry_dead(box.engine, seq)
        now = now_ms()

    row = box.row(seq)
    assert retried == 1
    assert [row[name] for name in ("state", "attempts", "enqueued_at", "settled_at", "available_at")] == [
        "pending",
        0,
        now,
        None,
        None,
    ]


def test_retrying_one_dead_letter_retries_all_of_its_key_and_of_no_other(box: Outbox) -> None:
    older, newer = put_dead(box, "a", 1), put_dead(box, "a", 2)
    other = put_dead(box, "b")

    retried = retry_dead(box.engine, older)

    assert retried == 2
    assert [box.state(seq) for seq in (older, newer, other)] == ["pending", "pending", "dead"]


@pytest.mark.parametrize("state", ["delivered", "superseded"])
def test_a_message_that_is_not_dead_is_not_retried(box: Outbox, state: str) -> None:
    settled, waiting = box.put_settled(state, 5), box.put("waits")
    before = box.rows()

    retried = [retry_dead(box.engine, seq) for seq in (settled, waiting, 999)]

    assert retried == [0, 0, 0]
    assert box.rows() == before
