"""A delivered message settles the other messages of its key, by version and never by ``seq``."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.orm import Session

from outbox import DELIVERED, RetryPolicy, enqueue, writing
from outbox.message import Destination
from outbox.settle import Judged, settle
from tests.outbox.conftest import TOPIC, Outbox

NOW = 1_700_000_000_000
POLICY = RetryPolicy(give_up_after=timedelta(hours=24), longest_wait=timedelta(minutes=5))


def deliver(box: Outbox, seq: int) -> None:
    tokens = box.lease_all()
    with writing(box.engine) as connection:
        settle(connection, Destination.GATEWAY, tokens, [Judged(box.message(seq), DELIVERED)], POLICY, NOW)


@pytest.mark.parametrize(
    "waiting",
    [{}, {"state": "retrying", "available_at": 1}, {"state": "dead", "settled_at": 1}],
    ids=["pending", "retrying", "dead"],
)
@pytest.mark.parametrize("version", [4, 5], ids=["lower", "equal"])
def test_what_is_not_newer_is_superseded(box: Outbox, version: int, waiting: dict[str, Any]) -> None:
    older = box.put(version=version, **waiting)
    delivered = box.put(version=5)

    deliver(box, delivered)

    assert [(row["seq"], row["state"], row["settled_at"]) for row in box.rows()] == [
        (older, "superseded", NOW),
        (delivered, "delivered", NOW),
    ]


@pytest.mark.parametrize(
    "waiting",
    [{}, {"state": "retrying", "available_at": 1}, {"state": "dead", "settled_at": 1}],
    ids=["pending", "retrying", "dead"],
)
def test_what_is_newer_stays_as_it_is(box: Outbox, waiting: dict[str, Any]) -> None:
    newer = box.put(version=6, **waiting)
    before = box.row(newer)

    deliver(box, box.put(version=5))

    assert box.row(newer) == before


@pytest.mark.parametrize(
    "waiting",
    [{}, {"state": "retrying", "available_at": 1}, {"state": "dead", "settled_at": 1}],
    ids=["pending", "retrying", "dead"],
)
def test_of_one_version_a_later_seq_is_newer_and_stays_as_it_is(box: Outbox, waiting: dict[str, Any]) -> None:
    delivered = box.put(version=5)
    later = box.put(version=5, **waiting)
    before = box.row(later)

    deliver(box, delivered)

    assert box.row(later) == before
    assert box.state(delivered) == "delivered"


def test_a_later_seq_with_an_older_state_gives_way_to_the_newer_version(box: Outbox) -> None:
    revoked = box.put(version=2)
    replay_of_what_was_before = box.put(version=1)

    deliver(box, revoked)

    assert box.state(replay_of_what_was_before) == "superseded"


def test_a_later_seq_with_an_older_state_supersedes_no_newer_version(box: Outbox) -> None:
    revoked = box.put(version=2)
    replay_of_what_was_before = box.put(version=1)

    deliver(box, replay_of_what_was_before)

    assert box.state(revoked) == "pending"


def test_other_keys_and_other_topics_are_left_alone(box: Outbox) -> None:
    other_key = box.put("other", version=1)
    with Session(box.engine) as session, session.begin():
        enqueue(session, topic="parcel", key="k", version=1, payload="{}")

    deliver(box, box.put("k", version=5))

    assert box.state(other_key) == "pending"
    assert [row["state"] for row in box.rows("topic = 'parcel'")] == ["pending"]
    assert len(box.rows(f"topic = '{TOPIC}'")) == 2


def test_what_was_settled_before_keeps_its_time(box: Outbox) -> None:
    earlier = [box.put_settled("delivered", 5), box.put_settled("superseded", 6)]

    deliver(box, box.put(version=9))

    assert [box.row(seq)["settled_at"] for seq in earlier] == [5, 6]
