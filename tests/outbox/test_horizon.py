"""The horizon: no message is passed over, however late its transaction commits, and reading stays short."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from outbox import SHARDS, Message, Origin, horizon, reading, writing
from outbox.horizon import Horizon
from outbox.message import Destination
from tests.outbox.conftest import TOPIC, Outbox

pytestmark = pytest.mark.only("postgresql", because="SQLite commits in the order of seq, and keeps no settled entries")

EVERY_SHARD = range(SHARDS)


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """The horizon moves as fast as it can, and no whole read comes to its help."""
    monkeypatch.setattr(horizon, "MARK_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(horizon, "WHOLE_EVERY_SECONDS", 3600.0)


def read(box: Outbox, at: Horizon, limit: int = 100) -> list[Message]:
    with reading(box.engine) as connection:
        return at.pending(connection, Destination.GATEWAY, EVERY_SHARD, limit, 10**9).messages


def settle_all(box: Outbox, at: Horizon) -> int:
    """Reads and delivers until nothing comes; several reads more, so that the horizon is as far as it gets."""
    count = 0
    for _ in range(5):
        while found := read(box, at):
            count += len(found)
            with writing(box.engine) as connection:
                values: dict[str, Any] = {"seqs": [one.seq for one in found]}
                connection.execute(
                    text("UPDATE outbox_messages SET state = 'delivered', settled_at = 1 WHERE seq = ANY(:seqs)"),
                    values,
                )
    return count


@contextmanager
def uncommitted(box: Outbox, key: str, origin: Origin = Origin.LIVE) -> Iterator[Connection]:
    """A transaction that has enqueued and commits when the caller is done."""
    with writing(box.engine) as connection:
        connection.execute(
            text(
                "INSERT INTO outbox_messages (topic, key, version, shard, payload, origin, enqueued_at)"
                " VALUES (:topic, :key, 1, 0, '{}', :origin, 1)"
            ),
            {"topic": TOPIC, "key": key, "origin": origin.value},
        )
        yield connection


@pytest.mark.parametrize("origin", Origin)
def test_a_lower_seq_that_commits_after_a_higher_one_was_delivered_is_read_at_once(box: Outbox, origin: Origin) -> None:
    at = Horizon()
    with uncommitted(box, "late", origin):
        higher = [box.put(f"k{number}", origin=origin) for number in range(3)]
        assert settle_all(box, at) == 3

    (found,) = read(box, at)
    assert found.key == "late"
    assert found.seq < min(higher)


def test_a_message_of_the_only_transaction_under_way_is_read_at_once(box: Outbox) -> None:
    """Its number is not below any snapshot's upper end: that is drawn behind the last one that ended."""
    at = Horizon()
    with uncommitted(box, "alone"):
        assert settle_all(box, at) == 0
    assert [one.key for one in read(box, at)] == ["alone"]


def test_while_there_is_nothing_to_pass_no_transaction_is_given_a_number(box: Outbox) -> None:
    at = Horizon()
    box.put("k")
    settle_all(box, at)
    while at._begin[Origin.LIVE] <= 1:
        read(box, at)
    with reading(box.engine) as connection:
        at.pending(connection, Destination.GATEWAY, EVERY_SHARD, 100, 10**9)
        (number,) = connection.exec_driver_sql("SELECT pg_current_xact_id_if_assigned()").one()
    assert number is None


def test_it_waits_for_each_of_several_transactions_that_end_in_another_order(box: Outbox) -> None:
    at = Horizon()
    with uncommitted(box, "first"):
        with uncommitted(box, "second"):
            box.put("third")
            assert settle_all(box, at) == 1
        box.put("fourth")
        assert settle_all(box, at) == 2
    assert [one.key for one in read(box, at)] == ["first"]


def test_a_live_message_is_read_before_replayed_ones_that_wait_behind_the_horizon(box: Outbox) -> None:
    at = Horizon()
    for number in range(10):
        box.put(f"r{number}", origin=Origin.REPLAY)
    read(box, at, limit=5)
    box.put("live")
    assert [one.key for one in read(box, at, limit=3)] == ["live", "r0", "r1"]


@pytest.mark.parametrize("cut_by", ["limit", "bytes"])
def test_replayed_messages_that_a_full_read_had_no_room_for_are_not_passed_over(box: Outbox, cut_by: str) -> None:
    at = Horizon()
    limit, max_bytes = (3, 10**9) if cut_by == "limit" else (100, 3 * 50)
    box.put("before", origin=Origin.REPLAY)
    assert settle_all(box, at) == 1
    box.put("waits", origin=Origin.REPLAY)
    live = [box.put(f"k{number}", payload="x" * 50) for number in range(6)]

    with reading(box.engine) as connection:
        for _ in range(10):
            found = at.pending(connection, Destination.GATEWAY, EVERY_SHARD, limit, max_bytes).messages
            assert [one.key for one in found] == ["k0", "k1", "k2"]
    for _ in range(5):
        with reading(box.engine) as connection:
            at.pending(connection, Destination.GATEWAY, EVERY_SHARD, limit, max_bytes)
    for seq in live:
        box.change(seq, state="delivered", settled_at=1)

    assert [one.key for one in read(box, at)] == ["waits"]


def test_what_is_not_settled_is_read_again(box: Outbox) -> None:
    at = Horizon()
    for number in range(6):
        box.put(f"k{number}")
    for _ in range(5):
        assert [one.key for one in read(box, at, limit=4)] == ["k0", "k1", "k2", "k3"]


def test_other_shards_are_read_from_the_start(box: Outbox) -> None:
    at = Horizon()
    box.change(box.put("a"), shard=1)
    box.change(box.put("b"), shard=2)
    with reading(box.engine) as connection:
        for _ in range(5):
            at.pending(connection, Destination.GATEWAY, [2], 10, 10**9)
    assert [one.key for one in read(box, at)] == ["a", "b"]


def test_a_dead_letter_made_pending_again_far_behind_is_found_by_the_next_whole_read(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Horizon()
    old = box.put_settled("dead", 1, key="old")
    for number in range(5):
        box.put(f"k{number}")
    settle_all(box, at)
    # A transaction in any database of the server may hold it up for a while.
    while at._begin[Origin.LIVE] <= old:
        read(box, at)
    box.change(old, state="pending", settled_at=None)
    assert read(box, at) == []

    monkeypatch.setattr(at, "_next_whole", 0.0)
    assert [one.key for one in read(box, at)] == ["old"]


def test_with_an_old_snapshot_open_a_read_walks_over_none_of_the_settled_entries(box: Outbox) -> None:
    at = Horizon()
    with reading(box.engine) as old_snapshot:
        old_snapshot.exec_driver_sql("SELECT count(*) FROM outbox_messages").scalar_one()
        with writing(box.engine) as connection:
            connection.exec_driver_sql(
                f"INSERT INTO outbox_messages (topic, key, version, shard, payload, enqueued_at)"
                f" SELECT '{TOPIC}', 'k' || n, 1, mod(n, {SHARDS}), '{{}}', 1 FROM generate_series(1, 20000) AS n"
            )
        assert settle_all(box, at) == 20_000
        box.put("new")

        from_the_horizon, found = entries_walked(box, at)
        from_the_start, same = entries_walked(box, Horizon())

    assert [one.key for one in found] == [one.key for one in same] == ["new"]
    # The entries are there, as the read from the start shows.
    assert from_the_start > 200
    assert from_the_horizon < 50


def entries_walked(box: Outbox, at: Horizon) -> tuple[int, list[Message]]:
    """Pages that the server looked at for one read, and what came of it."""
    sent: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if "outbox_messages AS m" in statement:
            sent.append((statement, parameters))

    with reading(box.engine) as connection:
        event.listen(connection, "before_cursor_execute", note)
        found = at.pending(connection, Destination.GATEWAY, EVERY_SHARD, 100, 10**9).messages
        event.remove(connection, "before_cursor_execute", note)
        ((statement, parameters),) = sent
        (plan,) = connection.exec_driver_sql(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters
        ).scalar_one()
    return plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"], found
