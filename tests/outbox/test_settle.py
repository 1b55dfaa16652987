"""Every outcome of the verdict table, as it stands in the row afterwards."""

from datetime import timedelta
from typing import Any

import pytest

from outbox import DELIVERED, Outcome, RetryPolicy, State, Verdict, writing
from outbox.message import Destination
from outbox.settle import Judged, Settled, count_attempt, settle
from tests.outbox.conftest import Outbox

NOW = 1_700_000_000_000
POLICY = RetryPolicy(give_up_after=timedelta(hours=24), longest_wait=timedelta(minutes=5))
DAY = 24 * 3_600_000
NOT_YET = Verdict(Outcome.REFUSED_FOR_NOW, "contact co-1 is not at the gateway yet")
NEVER = Verdict(Outcome.REFUSED_FOR_GOOD, "the payload has no id")


def settle_all(box: Outbox, tokens: dict[int, str], *judged: Judged) -> list[Settled]:
    with writing(box.engine) as connection:
        return settle(connection, Destination.GATEWAY, tokens, judged, POLICY, NOW)


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
        "refused_at": NOW,
    }


def test_a_wait_is_never_longer_than_the_longest(box: Outbox) -> None:
    seq = box.put(enqueued_at=NOW)

    settle_one(box, seq, NOT_YET, wait=timedelta(days=3))

    assert box.row(seq)["available_at"] == NOW + 5 * 60_000


def test_an_attempt_counted_before_delivering_is_not_counted_twice(box: Outbox) -> None:
    seq = box.put(enqueued_at=NOW, attempts=4)

    settle_one(box, seq, NOT_YET, counted=True)

    assert box.row(seq)["attempts"] == 4


def refused_before(since: int, wait: int, refused_for_ms: int = 0) -> dict[str, Any]:
    """The columns of a message that was refused ``since`` ms ago and then waited for ``wait``."""
    last = NOW - since
    return {
        "state": "retrying",
        "refused_at": last,
        "available_at": last + wait,
        "refused_for_ms": refused_for_ms,
        "attempts": 9,
    }


@pytest.mark.parametrize(("before", "state"), [(DAY - 1_001, State.RETRYING), (DAY - 1_000, State.DEAD)])
def test_refused_for_now_is_given_up_once_it_was_refused_for_long_enough(
    box: Outbox, before: int, state: State
) -> None:
    seq = box.put(**refused_before(1_000, wait=900, refused_for_ms=before))

    assert settle_one(box, seq, NOT_YET) is state

    row = box.row(seq)
    assert (row["state"], row["attempts"], row["refused_for_ms"]) == (state.value, 10, before + 1_000)


@pytest.mark.parametrize(
    ("since", "wait", "added"),
    [
        (1_500, 1_000, 1_500),
        (2_000, 1_000, 2_000),
        (2_001, 1_000, 2_000),
        (3 * DAY, 60_000, 120_000),
        (-5_000, 1_000, 0),
        (-5 * DAY, 1_000, 0),
        (3 * DAY, 2**52 - NOW, 10 * 60_000),
        (1_000, -1_000, 0),
    ],
    ids=[
        "tried late",
        "twice the wait",
        "more than that",
        "after an outage",
        "the clock stepped back",
        "by days",
        "a wait longer than any",
        "a wait less than none",
    ],
)
def test_a_refusal_adds_the_time_since_the_last_at_most_twice_the_wait_and_never_less_than_none(
    box: Outbox, since: int, wait: int, added: int
) -> None:
    seq = box.put(**refused_before(since, wait, refused_for_ms=7))

    settle_one(box, seq, NOT_YET)

    row = box.row(seq)
    assert (row["state"], row["refused_for_ms"], row["refused_at"]) == ("retrying", 7 + added, NOW)


@pytest.mark.parametrize("columns", [{}, {"state": "retrying", "available_at": 1}], ids=["never", "before 0.2.0"])
@pytest.mark.parametrize("enqueued_at", [NOW - 30 * DAY, NOW + 365 * DAY], ids=["long ago", "in the future"])
def test_the_first_refusal_adds_nothing_however_long_the_message_waited(
    box: Outbox, columns: dict[str, Any], enqueued_at: int
) -> None:
    seq = box.put(enqueued_at=enqueued_at, **columns)

    assert settle_one(box, seq, NOT_YET) is State.RETRYING

    assert (box.row(seq)["refused_for_ms"], box.row(seq)["refused_at"]) == (0, NOW)


def test_counts_at_their_bounds_stay_there(box: Outbox) -> None:
    seq = box.put(**refused_before(1_000, wait=1_000, refused_for_ms=2**53 - 1) | {"attempts": 2**31 - 1})

    assert settle_one(box, seq, NOT_YET) is State.DEAD

    assert (box.row(seq)["attempts"], box.row(seq)["refused_for_ms"]) == (2**31 - 1, 2**53 - 1)


def test_a_message_given_up_says_so_with_the_last_reason(box: Outbox) -> None:
    seq = box.put(**refused_before(1, wait=1, refused_for_ms=DAY))

    settle_one(box, seq, NOT_YET)

    assert box.row(seq)["last_error"] == f"given up after 1 day, 0:00:00 of refusals: {NOT_YET.reason}"
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


@pytest.mark.parametrize("refused_for_ms", [0, DAY], ids=["retrying", "given up"])
def test_a_reason_is_stored_redacted_on_one_line_and_cut_to_2000(box: Outbox, refused_for_ms: int) -> None:
    seq = box.put(refused_for_ms=refused_for_ms)
    reason = f"token_hash {'ab' * 32} differs\nfrom\x00 {'T' * 43} \ud800" + " ninety" * 1000

    settle_one(box, seq, Verdict(Outcome.REFUSED_FOR_NOW, reason))

    stored = box.row(seq)["last_error"]
    assert "token_hash [hash] differs from\\x00 [token] \\ud800 ninety" in stored
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
    box.change(seq, attempts=3, crashes=1)
    counted = box.message(seq)
    box.change(seq, attempts=2, crashes=0)
    tokens = box.lease_all()

    with writing(box.engine) as connection:
        written = count_attempt(connection, Destination.GATEWAY, tokens, counted)

    assert written
    assert changes(before, box.row(seq)) == {"attempts": 3, "crashes": 1}


def test_counting_an_attempt_leaves_a_settled_message_as_it_is(box: Outbox) -> None:
    seq = box.put()
    stale = box.message(seq)
    box.change(seq, state="delivered", settled_at=1)
    before = box.row(seq)
    tokens = box.lease_all()

    with writing(box.engine) as connection:
        count_attempt(connection, Destination.GATEWAY, tokens, stale)

    assert box.row(seq) == before


def test_an_attempt_counted_ahead_of_a_delivery_that_went_well_was_no_refusal(box: Outbox) -> None:
    seq = box.put(attempts=3)

    settle_one(box, seq, DELIVERED, counted=True)

    assert (box.row(seq)["state"], box.row(seq)["attempts"]) == ("delivered", 2)


@pytest.mark.parametrize(("verdict", "crashes"), [(NOT_YET, 0), (NEVER, 4), (DELIVERED, 4)])
def test_a_refusal_for_now_ends_the_row_of_crashes(box: Outbox, verdict: Verdict, crashes: int) -> None:
    seq = box.put(attempts=4, crashes=4)

    settle_one(box, seq, verdict, counted=True)

    assert box.row(seq)["crashes"] == crashes
