"""Which messages a relay reads: the newest of each key, in what order, and how many."""

from typing import Any

import pytest

from outbox import Origin, reading, shard_of, statements
from outbox.message import Destination
from tests.outbox.conftest import Outbox

DEAD: dict[str, Any] = {"state": "dead", "settled_at": 1}
NOW, TOO_FAR = 1_000_000, 2_000_000


def retrying(available_at: int) -> dict[str, Any]:
    return {"state": "retrying", "available_at": available_at}


def test_an_older_message_of_a_key_is_not_read_while_a_newer_one_waits(box: Outbox) -> None:
    box.put(version=1)
    newest = box.put(version=3)
    box.put(version=2)

    assert [message.seq for message in box.pending()] == [newest]


def test_an_older_message_is_not_read_while_a_newer_one_is_retrying(box: Outbox) -> None:
    older = box.put(version=1)
    newer = box.put(version=2, **retrying(NOW))

    assert box.pending() == []
    assert [message.seq for message in box.retries_due(NOW, TOO_FAR)] == [newer]
    with reading(box.engine) as connection:
        assert statements.one_unsettled(connection, Destination.GATEWAY, older) is None
        found = statements.one_unsettled(connection, Destination.GATEWAY, newer)
    assert found is not None
    assert found.seq == newer


def test_an_older_retrying_message_waits_for_a_newer_pending_one(box: Outbox) -> None:
    box.put(version=1, **retrying(NOW))
    box.put(version=2)

    assert box.retries_due(NOW, TOO_FAR) == []


def test_a_replayed_message_of_the_same_version_holds_up_no_live_one(box: Outbox) -> None:
    both = [box.put(version=1), box.put(version=1, origin=Origin.REPLAY)]

    assert [message.seq for message in box.pending()] == both


@pytest.mark.parametrize(
    ("first", "second"),
    [(Origin.LIVE, Origin.LIVE), (Origin.REPLAY, Origin.REPLAY), (Origin.REPLAY, Origin.LIVE)],
    ids=["live", "replayed", "a live one after a replayed one"],
)
def test_of_one_version_the_later_seq_is_read_and_the_earlier_waits_for_it(
    box: Outbox, first: Origin, second: Origin
) -> None:
    earlier = box.put(version=1, origin=first)
    later = box.put(version=1, origin=second)

    with reading(box.engine) as connection:
        one = statements.one_unsettled(connection, Destination.GATEWAY, earlier)

    assert [message.seq for message in box.pending()] == [later]
    assert one is None


def test_a_dead_message_of_the_same_version_and_a_later_seq_is_newer(box: Outbox) -> None:
    box.put(version=1, **DEAD)
    waits = box.put(version=1)
    later = box.put(version=1, **DEAD)

    assert [(message.seq, message.newer_dead_seq) for message in box.pending()] == [(waits, later)]


def test_a_newer_dead_message_is_reported_with_the_older_one(box: Outbox) -> None:
    older = box.put(version=1)
    box.put(version=2, **DEAD)
    newest_dead = box.put(version=3, **DEAD)

    (message,) = box.pending()

    assert (message.seq, message.newer_dead_seq) == (older, newest_dead)


def test_a_dead_message_that_is_older_is_not_reported(box: Outbox) -> None:
    box.put(version=1, **DEAD)
    box.put(version=2)

    (message,) = box.pending()

    assert message.newer_dead_seq is None


def test_live_messages_are_read_before_replayed_ones_and_each_oldest_first(box: Outbox) -> None:
    replayed = [box.put(key, origin=Origin.REPLAY) for key in "ab"]
    live = [box.put(key) for key in "cd"]

    assert [message.seq for message in box.pending()] == live + replayed
    assert [message.seq for message in box.pending(limit=3)] == [*live, replayed[0]]


def test_only_messages_of_the_given_shards_are_read(box: Outbox) -> None:
    box.put("a")
    wanted = box.put("b", **retrying(NOW))
    assert shard_of("a") != shard_of("b")

    with reading(box.engine) as connection:
        found = statements.pending(connection, Destination.GATEWAY, [shard_of("b")], 10, 10).messages
        due = statements.retries_due(connection, Destination.GATEWAY, [shard_of("b")], 10, 10, now=NOW, too_far=TOO_FAR)
        none = statements.pending(connection, Destination.GATEWAY, [], 10, 10).messages

    assert (found, [message.seq for message in due], none) == ([], [wanted], [])


@pytest.mark.parametrize(
    ("available_at", "is_due"),
    [(NOW, True), (NOW + 1, False), (TOO_FAR, False), (TOO_FAR + 1, True)],
    ids=["just due", "not yet", "the longest wait", "further than any wait"],
)
def test_a_retry_is_due_after_its_wait_or_when_its_wait_is_longer_than_any(
    box: Outbox, available_at: int, is_due: bool
) -> None:
    box.put(**retrying(available_at))

    found = box.retries_due(NOW, TOO_FAR)
    with reading(box.engine) as connection:
        anything = statements.anything_due(connection, Destination.GATEWAY, NOW, TOO_FAR)

    assert (len(found) == 1, anything) == (is_due, is_due)


def test_the_retry_that_is_due_longest_is_read_first(box: Outbox) -> None:
    later, first = box.put("a", **retrying(NOW)), box.put("b", **retrying(NOW - 5))

    assert [message.seq for message in box.retries_due(NOW, TOO_FAR)] == [first, later]
    assert [message.seq for message in box.retries_due(NOW, TOO_FAR, limit=1)] == [first]


def test_a_batch_ends_with_the_payload_that_fills_its_bytes(box: Outbox) -> None:
    seqs = [box.put(key, payload="x" * 40) for key in "abc"]

    assert [message.seq for message in box.pending(max_bytes=81)] == seqs
    assert [message.seq for message in box.pending(max_bytes=80)] == seqs[:2]
    assert [message.seq for message in box.pending(max_bytes=41)] == seqs[:2]
    assert [message.seq for message in box.pending(max_bytes=40)] == seqs[:1]


def test_a_payload_larger_than_the_bytes_of_a_batch_is_still_read_alone(box: Outbox) -> None:
    seqs = [box.put(key, payload="x" * 40) for key in "ab"]

    assert [message.seq for message in box.pending(max_bytes=1)] == seqs[:1]


@pytest.mark.parametrize("state", ["delivered", "superseded", "dead"])
def test_a_settled_message_is_never_read(box: Outbox, state: str) -> None:
    seq = box.put(state=state, settled_at=1, available_at=1)

    with reading(box.engine) as connection:
        one = statements.one_unsettled(connection, Destination.GATEWAY, seq)
        anything = statements.anything_due(connection, Destination.GATEWAY, NOW, TOO_FAR)

    assert (box.pending(), box.retries_due(NOW, TOO_FAR), one, anything) == ([], [], None, False)


def test_a_message_found_outside_any_shard_counts_as_due_until_a_newer_one_waits(box: Outbox) -> None:
    box.put(version=1)
    box.put(version=2, **retrying(NOW + 1))

    with reading(box.engine) as connection:
        assert not statements.anything_due(connection, Destination.GATEWAY, NOW, TOO_FAR)
        assert statements.anything_due(connection, Destination.GATEWAY, NOW + 1, TOO_FAR)


def test_the_age_of_the_oldest_counts_only_what_waits(box: Outbox) -> None:
    box.put_settled("delivered", 1, key="settled")
    box.put("waits", enqueued_at=500, **retrying(9))
    box.put("newer", enqueued_at=600)

    with reading(box.engine) as connection:
        assert statements.oldest_unsettled_at(connection, Destination.GATEWAY) == 500
        assert statements.count_by_state(connection, Destination.GATEWAY) == {
            "delivered": 1,
            "retrying": 1,
            "pending": 1,
        }


def test_that_nothing_is_retrying_is_known_from_any_pending_message(box: Outbox) -> None:
    with reading(box.engine) as connection:
        nothing_found = statements.pending(connection, Destination.GATEWAY, range(64), 10, 10)
    box.put("a")
    with reading(box.engine) as connection:
        none = statements.pending(connection, Destination.GATEWAY, range(64), 10, 10)
    box.put("b", **retrying(NOW + 1))
    with reading(box.engine) as connection:
        one = statements.pending(connection, Destination.GATEWAY, range(64), 10, 10)

    assert (nothing_found.any_retrying, none.any_retrying, one.any_retrying) == (True, False, True)
