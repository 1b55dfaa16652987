"""P9, in front of the gateway: a relay whose leases may be another's by now sends nothing more."""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy.exc import OperationalError

from gateway_store import mirror_and_commit
from outbox import Destination, Outcome, open_engine, writing
from outbox.fence import LeaseLostError
from outbox.leases import Leases
from relay.destinations.port import Delivery
from tests.conftest import Stores, write
from tests.postgresql.waiting import until
from tests.relay.rig import Meddling, draining, gateway_of, outcomes

LEASE = timedelta(seconds=15)


@pytest.fixture
def leases(stores: Stores) -> Leases:
    held = Leases(stores.source, LEASE, Destination.GATEWAY)
    held.balance()
    return held


def test_leases_that_were_just_taken_are_proved(leases: Leases) -> None:
    leases.prove(leases.tokens)


def test_a_wall_clock_that_has_gone_further_than_the_lease_disproves_it(leases: Leases) -> None:
    with freeze_time() as clock:
        leases.renew()
        clock.tick(LEASE - timedelta(seconds=1))
        leases.prove(leases.tokens)
        clock.tick(timedelta(seconds=1))
        with pytest.raises(LeaseLostError, match="last proved 15"):
            leases.prove(leases.tokens)
        leases.renew()
        leases.prove(leases.tokens)


def test_time_that_passed_while_the_wall_clock_stood_still_disproves_it_too(stores: Stores) -> None:
    leases = Leases(stores.source, timedelta(milliseconds=200), Destination.GATEWAY)
    with freeze_time():
        leases.balance()
        until("the lease is disproved", lambda: is_disproved(leases))


def is_disproved(leases: Leases) -> bool:
    try:
        leases.prove(leases.tokens)
    except LeaseLostError:
        return True
    return False


def test_a_lease_that_was_found_taken_is_not_proved_by_the_others_age(leases: Leases, stores: Stores) -> None:
    held = leases.tokens
    write(stores.source, "DELETE FROM outbox_leases WHERE shard = 7")
    leases.renew()
    leases.prove({shard: token for shard, token in held.items() if shard != 7})
    with pytest.raises(LeaseLostError, match="1 shard in hand"):
        leases.prove(held)


def test_a_relay_that_stood_still_before_the_delivery_sends_nothing_and_burns_no_attempt(stores: Stores) -> None:
    invite = stores.create().invite
    with freeze_time() as clock, gateway_of(stores) as real:

        def stand_still(_: Sequence[Delivery]) -> None:
            clock.tick(timedelta(minutes=2))

        gateway = Meddling(real, before=stand_still)
        with draining(stores, gateway) as drain:
            assert outcomes(drain.batch()) == [Outcome.LEASE_LOST]
            assert stores.mirrored(invite.id) is None
            assert [(row["state"], row["attempts"]) for row in stores.messages()] == [("pending", 0)]
            gateway.before = lambda _: None
            drain.leases.renew()
            assert outcomes(drain.batch()) == [Outcome.DELIVERED]


@pytest.mark.parametrize("allowed_calls", [0, 1])
def test_a_fence_that_closes_after_the_lock_or_before_the_commit_leaves_the_gateway_as_it_was(
    stores: Stores, allowed_calls: int
) -> None:
    stores.create()
    (row,) = stores.messages()
    calls: list[None] = []

    def prove() -> None:
        if len(calls) == allowed_calls:
            raise LeaseLostError("gone")
        calls.append(None)

    with pytest.raises(LeaseLostError):
        mirror_and_commit(stores.mirror, [row["payload"]], prove=prove)
    assert stores.mirrored(row["key"]) is None


def test_the_first_proof_is_taken_when_nobody_else_can_change_the_rows_any_more(stores: Stores) -> None:
    invite = stores.create().invite
    (row,) = stores.messages()
    mirror_and_commit(stores.mirror, [row["payload"]])
    other = open_engine(stores.mirror_url, busy_timeout=0.05)
    refused: list[bool] = []

    def prove() -> None:
        try:
            with writing(other) as connection:
                connection.exec_driver_sql(f"UPDATE ingress_invites SET note = 'x' WHERE id = '{invite.id}'")
            refused.append(False)
        except OperationalError:
            refused.append(True)

    stores.revoke(invite.id)
    mirror_and_commit(stores.mirror, [stores.messages()[-1]["payload"]], prove=prove)
    other.dispose()
    assert refused == [True, True], "before the write, and before COMMIT"


def test_a_suspect_of_a_relay_that_stood_still_is_not_sent_and_its_count_is_taken_back(stores: Stores) -> None:
    invite = stores.create().invite
    with freeze_time() as clock, gateway_of(stores) as real:

        def stand_still(_: Sequence[Delivery]) -> None:
            clock.tick(timedelta(minutes=2))

        with draining(stores, Meddling(real, before=stand_still)) as drain:
            drain.suspect(range(64))
            assert outcomes(drain.batch()) == [Outcome.LEASE_LOST]
    assert stores.mirrored(invite.id) is None
    assert [row["attempts"] for row in stores.messages()] == [0]
