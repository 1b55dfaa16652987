"""P9: a relay that lost its lease writes nothing, whatever it was told by the other side."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from outbox import DELIVERED, Outcome, RetryPolicy, Verdict, shard_of, writing
from outbox.leases import Leases
from outbox.message import Destination
from outbox.settle import Judged, count_attempt, settle
from tests.conftest import write
from tests.outbox.conftest import Outbox

Lost = Callable[[Outbox], dict[int, str]]
NOW = 1_700_000_000_000
POLICY = RetryPolicy(give_up_after=timedelta(hours=24), longest_wait=timedelta(minutes=5))
VERDICTS = [
    DELIVERED,
    Verdict(Outcome.REFUSED_FOR_NOW, "not yet"),
    Verdict(Outcome.REFUSED_FOR_GOOD, "never"),
    Verdict(Outcome.UNREACHABLE, "timed out"),
]


def tokens_taken_by_another(box: Outbox) -> dict[int, str]:
    held = box.lease_all()
    write(box.engine, "UPDATE outbox_leases SET expires_at = 0")
    assert box.lease_all() != held
    return held


def tokens_of_a_released_lease(box: Outbox) -> dict[int, str]:
    leases = Leases(box.engine, timedelta(seconds=10), Destination.GATEWAY)
    leases.balance()
    held = leases.tokens
    leases.release()
    return held


def tokens_of_other_shards(box: Outbox) -> dict[int, str]:
    return {shard: token for shard, token in box.lease_all().items() if shard != shard_of("k")}


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: verdict.outcome.value)
@pytest.mark.parametrize("lost", [tokens_taken_by_another, tokens_of_a_released_lease, tokens_of_other_shards])
def test_a_relay_whose_lease_is_lost_writes_nothing(box: Outbox, lost: Lost, verdict: Verdict) -> None:
    box.put(version=1)
    newest = box.put(version=2)
    before = box.rows()
    tokens = lost(box)

    with writing(box.engine) as connection:
        (settled,) = settle(
            connection, Destination.GATEWAY, tokens, [Judged(box.message(newest), verdict)], POLICY, NOW
        )

    assert (settled.verdict.outcome, settled.state) == (Outcome.LEASE_LOST, None)
    assert box.rows() == before


def test_a_batch_settles_the_shards_that_are_still_held(box: Outbox) -> None:
    held, lost = box.put("a"), box.put("b")
    assert shard_of("a") != shard_of("b")
    tokens = box.lease_all()
    write(box.engine, "UPDATE outbox_leases SET token = 'another relay' WHERE shard = :shard", shard=shard_of("b"))

    with writing(box.engine) as connection:
        judged = [Judged(box.message(seq), DELIVERED) for seq in (held, lost)]
        settled = settle(connection, Destination.GATEWAY, tokens, judged, POLICY, NOW)

    assert [one.verdict.outcome for one in settled] == [Outcome.DELIVERED, Outcome.LEASE_LOST]
    assert [box.state(held), box.state(lost)] == ["delivered", "pending"]


def test_a_lease_that_ran_out_but_that_no_one_took_still_settles(box: Outbox) -> None:
    seq = box.put()
    tokens = box.lease_all()
    write(box.engine, "UPDATE outbox_leases SET expires_at = 0")

    with writing(box.engine) as connection:
        settle(connection, Destination.GATEWAY, tokens, [Judged(box.message(seq), DELIVERED)], POLICY, NOW)

    assert box.state(seq) == "delivered"


def test_an_attempt_is_not_counted_without_the_lease(box: Outbox) -> None:
    seq = box.put()
    before = box.row(seq)
    tokens = tokens_taken_by_another(box)

    with writing(box.engine) as connection:
        written = count_attempt(connection, Destination.GATEWAY, tokens, box.message(seq))

    assert not written
    assert box.row(seq) == before
