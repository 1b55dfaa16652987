"""The row "lease lost" of the verdict table: a relay that lost its shards writes nothing, and does no harm."""

from collections.abc import Sequence

from outbox import Outcome
from outbox.leases import Leases
from relay.destinations.port import Delivery
from tests.conftest import Stores, write
from tests.relay.rig import Meddling, drain_all, draining, everything, gateway_of, outcomes


def take_all_leases(stores: Stores) -> None:
    write(stores.source, "UPDATE outbox_leases SET owner = 'other', token = 'other-' || shard")


def test_a_lease_lost_between_delivery_and_settling_leaves_the_outbox_unwritten(stores: Stores) -> None:
    ids = [stores.create().invite.id for _ in range(3)]
    before = everything(stores)
    with gateway_of(stores) as real:
        gateway = Meddling(real, after=lambda _: take_all_leases(stores))
        with draining(stores, gateway) as drain:
            assert outcomes(drain.batch()) == [Outcome.LEASE_LOST] * 3
    assert everything(stores) == before
    assert all(stores.mirrored(id_) is not None for id_ in ids), "the late delivery itself did arrive"


def test_a_refusal_too_is_not_written_by_a_relay_that_lost_its_lease(stores: Stores) -> None:
    stores.create(contact_id="nobody")
    before = everything(stores)
    with gateway_of(stores) as real:
        gateway = Meddling(real, after=lambda _: take_all_leases(stores))
        with draining(stores, gateway) as drain:
            assert outcomes(drain.batch()) == [Outcome.LEASE_LOST]
    assert everything(stores) == before


def test_only_the_messages_of_the_shards_that_were_lost_stay_unsettled(stores: Stores) -> None:
    for _ in range(12):
        stores.create()
    lost = stores.messages()[5]["shard"]
    with gateway_of(stores) as real:
        gateway = Meddling(
            real, after=lambda _: write(stores.source, "DELETE FROM outbox_leases WHERE shard = :lost", lost=lost)
        )
        with draining(stores, gateway) as drain:
            drain.batch()
    assert {row["state"] for row in stores.messages(f"shard = {lost}")} == {"pending"}
    assert {row["state"] for row in stores.messages(f"shard <> {lost}")} == {"delivered"}


def test_a_suspect_whose_lease_is_lost_is_not_counted_and_not_delivered(stores: Stores) -> None:
    stores.create()
    before = everything(stores)
    with gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            drain.suspect(list(drain.leases.tokens))
            take_all_leases(stores)
            drain.batch()
            assert everything(stores) == before


def test_redelivery_by_the_relay_that_took_over_changes_nothing_at_the_gateway(stores: Stores) -> None:
    invite = stores.create().invite
    with gateway_of(stores) as real:
        with draining(stores, Meddling(real, after=lambda _: take_all_leases(stores))) as drain:
            drain.batch()
        mirrored = stores.mirrored(invite.id)
        write(stores.source, "DELETE FROM outbox_leases")
        with draining(stores, real) as successor:
            assert outcomes(drain_all(successor)) == [Outcome.DELIVERED]
    assert stores.mirrored(invite.id) == mirrored
    assert stores.states() == ["delivered"]


def test_the_loser_settles_nothing_even_after_it_leased_other_shards(stores: Stores) -> None:
    # The tokens of the batch count, not those that the relay holds by the time it settles.
    stores.create()
    with gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:

            def lose_then_win_back(_: Sequence[Delivery]) -> None:
                write(stores.source, "DELETE FROM outbox_leases")
                assert isinstance(drain.leases, Leases)
                drain.leases.balance()

            gateway.after = lose_then_win_back
            assert outcomes(drain.batch()) == [Outcome.LEASE_LOST]
            gateway.after = lambda _: None
            assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
