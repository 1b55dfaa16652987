"""What a relay may have died of: its messages are retried alone, each attempt counted ahead, and never in an outage."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from outbox import Outcome, Verdict
from outbox.fence import LeaseLostError, Prove
from relay.destinations.port import Delivery
from tests.conftest import Stores, write
from tests.relay.outages import missing, write_locked
from tests.relay.rig import Around, Meddling, drain_all, draining, everything, gateway_of, outcomes


@contextmanager
def after_a_crash(stores: Stores) -> Iterator[None]:
    """Leases that a relay on another host left to lapse."""
    write(
        stores.source,
        """
        WITH RECURSIVE s(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 63)
        INSERT INTO outbox_leases (destination, shard, owner, token, expires_at, length_ms)
        SELECT 'gateway', n, 'crashed', 'token-' || n, 1, 15000 FROM s
        """,
    )
    yield


def test_after_a_crash_each_message_is_delivered_alone(stores: Stores) -> None:
    ids = [stores.create().invite.id for _ in range(5)]
    with after_a_crash(stores), gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            drain_all(drain)
    assert gateway.delivered == [[id_] for id_ in ids]
    assert stores.states() == ["delivered"] * 5


def test_a_released_lease_makes_no_suspects(stores: Stores) -> None:
    ids = [stores.create().invite.id for _ in range(5)]
    with draining(stores):
        pass
    with gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            drain_all(drain)
    assert gateway.delivered == [ids]


def test_the_attempt_of_a_suspect_is_on_disk_before_it_is_delivered(stores: Stores) -> None:
    stores.create()
    seen: list[tuple[int, int]] = []
    with after_a_crash(stores), gateway_of(stores) as real:

        def look(_: object) -> None:
            (row,) = stores.messages()
            seen.append((row["attempts"], row["crashes"]))

        with draining(stores, Meddling(real, before=look)) as drain:
            drain_all(drain)
    assert seen == [(1, 1)]


def test_suspects_cost_no_attempt_while_the_gateway_is_gone(stores: Stores) -> None:
    for _ in range(3):
        stores.create()
    before = everything(stores)
    with after_a_crash(stores), gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            with missing(stores):
                for _ in range(20):
                    assert outcomes(drain.batch()) == [Outcome.UNREACHABLE]
            assert gateway.delivered == [], "a kill right after counting would leave the attempt counted"
            assert everything(stores) == before
            assert outcomes(drain_all(drain)) == [Outcome.DELIVERED] * 3


def test_a_suspect_whose_gateway_goes_after_the_probe_gets_its_attempt_back(stores: Stores) -> None:
    stores.create()
    before = everything(stores)
    with after_a_crash(stores), gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            gateway.before = lambda _: lock.__enter__() if len(gateway.delivered) == 1 else None
            lock = write_locked(stores)
            assert outcomes(drain.batch()) == [Outcome.UNREACHABLE]
            lock.__exit__(None, None, None)
            assert everything(stores) == before
            assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]


def test_a_suspect_that_is_refused_is_counted_once(stores: Stores) -> None:
    stores.create(contact_id="nobody")
    with after_a_crash(stores), draining(stores) as drain:
        drain_all(drain)
    (row,) = stores.messages()
    assert (row["state"], row["attempts"]) == ("retrying", 1)
    assert "contact 'nobody'" in row["last_error"]


def test_a_message_that_is_no_longer_the_newest_of_its_key_is_no_suspect(stores: Stores) -> None:
    invite = stores.create().invite
    with after_a_crash(stores), draining(stores) as drain:
        stores.revoke(invite.id)
        drain_all(drain)
    mirrored = stores.mirrored(invite.id)
    assert mirrored is not None
    assert mirrored.status == "revoked"
    assert stores.states() == ["superseded", "delivered"]


@pytest.mark.parametrize(("crashes", "outcome"), [(1, Outcome.DELIVERED), (5, Outcome.REFUSED_FOR_GOOD)])
def test_refusals_before_a_crash_do_not_count_as_crashes(stores: Stores, crashes: int, outcome: Outcome) -> None:
    stores.create()
    write(
        stores.source,
        "UPDATE outbox_messages SET state = 'retrying', attempts = 10, available_at = 0, crashes = :crashes",
        crashes=crashes,
    )
    with after_a_crash(stores), draining(stores) as drain:
        assert outcomes(drain_all(drain)) == [outcome]


@pytest.mark.parametrize("words", ["5", "9" * 1900, "5; look at it with `relay dead show 1`"])
def test_crashes_written_into_a_reason_count_for_nothing(stores: Stores, words: str) -> None:
    stores.create()
    write(
        stores.source,
        "UPDATE outbox_messages SET last_error = :reason",
        reason=f"relays in a row stopped while delivering it: {words}",
    )
    with after_a_crash(stores), draining(stores) as drain:
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]


def test_a_message_of_many_refusals_is_suspected_as_often_as_another(stores: Stores) -> None:
    stores.create()
    write(
        stores.source,
        "UPDATE outbox_messages SET state = 'retrying', available_at = 0, attempts = 2147483647, crashes = 4",
    )
    with after_a_crash(stores), draining(stores) as drain:
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert stores.messages()[0]["attempts"] == 2147483646


@dataclass(slots=True)
class FallsOver(Around):
    """A gateway that cannot be reached while it is given ``deadly``."""

    deadly: str = ""

    def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        if self.deadly in {message.key for message in messages}:
            return [Verdict(Outcome.UNREACHABLE, "it fell over") for _ in messages]
        return self.inner.collect(self.inner.send(messages, prove))


def test_p08_a_suspect_that_the_gateway_falls_over_holds_up_no_other(stores: Stores) -> None:
    deadly, *others = [stores.create().invite.id for _ in range(4)]
    with after_a_crash(stores), gateway_of(stores) as real, draining(stores, FallsOver(real, deadly)) as drain:
        seen = [outcome for _ in range(5) for outcome in outcomes(drain.batch())]
        (left,) = [row for row in stores.messages() if row["key"] == deadly]
    assert sorted(seen) == [Outcome.DELIVERED] * 3 + [Outcome.UNREACHABLE] * 2
    assert {id_ for id_ in others if stores.mirrored(id_) is not None} == set(others)
    assert (left["state"], left["attempts"], left["crashes"]) == ("pending", 0, 0)


def test_a_suspect_whose_lease_was_lost_on_the_way_is_tried_alone_again(stores: Stores) -> None:
    first, second = (stores.create().invite.id for _ in range(2))
    lost = iter([True, True])

    def lose(_: object) -> None:
        if next(lost, False):
            raise LeaseLostError("it was not proved in time")

    with after_a_crash(stores), gateway_of(stores) as real:
        gateway = Meddling(real, before=lose)
        with draining(stores, gateway) as drain:
            drain_all(drain)
    assert gateway.delivered == [[first], [second], [first], [second]]
    assert [row["attempts"] for row in stores.messages()] == [0, 0]
