"""Every outcome of the verdict table, as it stands in the row afterwards."""

from datetime import timedelta
from typing import Any

import pytest

from outbox import DELIVERED, Outcome, RetryPolicy, State, Verdict, writing
from outbox.settle import Judged, Settled, count_attempt, settle
from tests.outbox.conftest import Outbox

NOW = 1_700_000_000_000
POLICY = RetryPolicy(give_up_after=timedelta(hours=24), longest_wait=timedelta(minutes=5))
DAY = 24 * 3_600_000
NOT_YET = Verdict(Outcome.REFUSED_FOR_NOW, "contact co-1 is not at the gateway yet")
NEVER = Verdict(Outcome.REFUSED_FOR_GOOD, "the payload has no id")


def settle_all(box: Outbox, tokens: dict[int, str], *judged: Judged) -> list[Settled]:
    with writing(box.engine) as connection:
        return settle(connection, tokens, judged, POLICY, NOW)


def settle_one(box: Outbox, seq: int, verdict: Verdict, **how: Any) -> State | None:
    (settled,) = settle_all(box, box.lease_all(), Judged(box.message(seq), verdict, **how))
    return settled.state


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if before[name] != value}


def test_delivered_settles_now_and_counts_no_refusal(box: Outbox) -> None:
    seq = box.put()
    before = box.row(seq)

    state = settle_one(box, seq, DELIVERED)

    assert state is State.DELIVERED
    assert changes(before, box.row(seq)) == {"state": "delivered", "settled_at": NOW}


def test_unreachable_leaves_the_message_as_it_was(box: Outbox) -> None:
    seq = box.put(attempts=3, state="retrying", available_at=5, last_error="before")
    before = box.row(seq)

    state = settle_one(box, seq, Verdict(Outcome.UNREACHABLE, "timed out"))

    assert state is None
    assert box.row(seq) == before


def test_refused_for_now_waits_and_counts(box: Outbox) -> None:
    seq = box.put(enqueued_at=NOW)
    before = box.row(seq)

    state = settle_one(box, seq, NOT_YET, wait=timedelta(seconds=7))

    assert state is State.RETRYING
    assert changes(before, box.row(seq)) == {
        "state": "retrying",
        "attempts": 1,
        "available_at": NOW + 7_000,
        "last_error": NOT_YET.reason,
    }


def test_a_wait_is_never_longer_than_the_longest(box: Outbox) -> None:
    seq = box.put(enqueued_at=NOW)

    settle_one(box, seq, NOT_YET, wait=timedelta(days=3))

    assert box.row(seq)["available_at"] == NOW + 5 * 60_000


def test_an_attempt_counted_before_delivering_is_not_counted_twice(box: Outbox) -> None:
    seq = box.put(enqueued_at=NOW, attempts=4)

    settle_one(box, seq, NOT_YET, counted=True)

    assert box.row(seq)["attempts"] == 4


@pytest.mark.parametrize(("age", "state"), [(DAY - 1, State.RETRYING), (DAY, State.DEAD)])
def test_refused_for_now_is_given_up_once_its_time_since_enqueueing_is_over(
    box: Outbox, age: int, state: State
) -> None:
    seq = box.put(enqueued_at=NOW - age, attempts=9)

    assert settle_one(box, seq, NOT_YET) is state

    assert (box.row(seq)["state"], box.row(seq)["attempts"]) == (state.value, 10)


def test_a_message_given_up_says_so_with_the_last_reason(box: Outbox) -> None:
    seq = box.put(enqueued_at=NOW - DAY)

    settle_one(box, seq, NOT_YET)

    assert box.row(seq)["last_error"] == f"given up after 1 day, 0:00:00: {NOT_YET.reason}"
    assert box.row(seq)["settled_at"] == NOW


def test_refused_for_good_is_dead_at_once_with_its_reason(box: Outbox) -> None:
    seq = box.put(enqueued_at=NOW)
    before = box.row(seq)

    state = settle_one(box, seq, NEVER)

    assert state is State.DEAD
    assert changes(before, box.row(seq)) == {
        "state": "dead",
        "attempts": 1,
        "settled_at": NOW,
        "last_error": NEVER.reason,
    }


@pytest.mark.parametrize("enqueued_at", [NOW, NOW - DAY], ids=["retrying", "given up"])
def test_a_reason_is_stored_redacted_on_one_line_and_cut_to_2000(box: Outbox, enqueued_at: int) -> None:
    seq = box.put(enqueued_at=enqueued_at)
    reason = f"token_hash {'ab' * 32} differs\nfrom\x00 {'T' * 43} \ud800" + " word" * 1000

    settle_one(box, seq, Verdict(Outcome.REFUSED_FOR_NOW, reason))

    stored = box.row(seq)["last_error"]
    assert "token_hash abababab… differs from\\x00 [token] \\ud800 word" in stored
    assert len(stored) == 2000


@pytest.mark.parametrize("verdict", [DELIVERED, NOT_YET, NEVER], ids=lambda verdict: verdict.outcome.value)
@pytest.mark.parametrize("state", ["delivered", "superseded", "dead"])
def test_a_message_already_settled_is_not_changed_again(box: Outbox, verdict: Verdict, state: str) -> None:
    seq = box.put(enqueued_at=NOW)
    stale = box.message(seq)
    box.change(seq, state=state, settled_at=77)
    before = box.row(seq)

    settle_all(box, box.lease_all(), Judged(stale, verdict))

    assert box.row(seq) == before


def test_a_batch_gets_each_message_its_own_outcome(box: Outbox) -> None:
    seqs = [box.put(key, enqueued_at=NOW) for key in "abcd"]
    verdicts = [DELIVERED, NOT_YET, NEVER, Verdict(Outcome.UNREACHABLE)]

    settled = settle_all(
        box, box.lease_all(), *(Judged(box.message(s), v) for s, v in zip(seqs, verdicts, strict=True))
    )

    assert [one.state for one in settled] == ["delivered", "retrying", "dead", None]
    assert [box.state(seq) for seq in seqs] == ["delivered", "retrying", "dead", "pending"]


def test_an_attempt_can_be_counted_before_delivering(box: Outbox) -> None:
    seq = box.put(attempts=2)
    before = box.row(seq)
    box.change(seq, attempts=3)
    counted = box.message(seq)
    box.change(seq, attempts=2)
    tokens = box.lease_all()

    with writing(box.engine) as connection:
        written = count_attempt(connection, tokens, counted, "its relay stopped")

    assert written
    assert changes(before, box.row(seq)) == {"attempts": 3, "last_error": "its relay stopped"}


def test_counting_an_attempt_leaves_a_settled_message_as_it_is(box: Outbox) -> None:
    seq = box.put()
    stale = box.message(seq)
    box.change(seq, state="delivered", settled_at=1)
    before = box.row(seq)
    tokens = box.lease_all()

    with writing(box.engine) as connection:
        count_attempt(connection, tokens, stale, "its relay stopped")

    assert box.row(seq) == before


def test_an_attempt_counted_ahead_of_a_delivery_that_went_well_was_no_refusal(box: Outbox) -> None:
    seq = box.put(attempts=3)

    settle_one(box, seq, DELIVERED, counted=True)

    assert (box.row(seq)["state"], box.row(seq)["attempts"]) == ("delivered", 2)
