"""P5: a redeemed, revoked or expired invite never becomes active again, whatever arrives late or twice."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy.orm import Session

import assistant_store
from outbox import Outcome
from outbox.dead import retry_dead
from relay.destinations.port import Delivery
from relay.replay import enqueue_selected
from relay.topics import Selection
from tests.conftest import Stores, allowed, message_of, write
from tests.relay.rig import Meddling, answers, drain_all, draining, gateway_of, outcomes
from tests.system.watching import statuses_seen, watch_mirror

START = datetime(2026, 5, 13, 14, 11, tzinfo=UTC)


def close_by_redeeming(stores: Stores, invite_id: str) -> None:
    assert stores.use(invite_id) is not None


def close_by_revoking(stores: Stores, invite_id: str) -> None:
    assert stores.revoke(invite_id) is not None


def close_by_expiring(stores: Stores, invite_id: str) -> None:
    with Session(stores.source) as session, session.begin():
        assert assistant_store.expire_invite(session, invite_id) is not None


CLOSINGS = pytest.mark.parametrize(
    ("close", "status"),
    [(close_by_redeeming, "redeemed"), (close_by_revoking, "revoked"), (close_by_expiring, "expired")],
)
Close = Callable[[Stores, str], None]


def status_at_gateway(stores: Stores, invite_id: str) -> str:
    mirrored = stores.mirrored(invite_id)
    assert mirrored is not None
    return mirrored.status


@CLOSINGS
def test_p05_a_replay_after_closing_reopens_nothing(stores: Stores, close: Close, status: str) -> None:
    invite = stores.create().invite
    with draining(stores) as drain:
        drain_all(drain)
        close(stores, invite.id)
        drain_all(drain)
        watch_mirror(stores)
        enqueue_selected(stores.source, Selection(), lambda _: None)
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert status_at_gateway(stores, invite.id) == status
    assert "active" not in statuses_seen(stores)


@CLOSINGS
def test_p05_an_old_snapshot_delivered_again_after_closing_reopens_nothing(
    stores: Stores, close: Close, status: str
) -> None:
    invite = stores.create().invite
    old = message_of(stores.messages()[0])
    with gateway_of(stores) as gateway, draining(stores, gateway) as drain:
        drain_all(drain)
        close(stores, invite.id)
        drain_all(drain)
        watch_mirror(stores)
        assert [one.outcome for one in answers(gateway, [old, old], allowed)] == [Outcome.DELIVERED] * 2
    assert status_at_gateway(stores, invite.id) == status
    assert "active" not in statuses_seen(stores)


@CLOSINGS
def test_p05_a_paused_relay_that_delivers_its_old_message_late_reopens_nothing(
    stores: Stores, close: Close, status: str
) -> None:
    invite = stores.create().invite
    by_the_other: list[Outcome] = []

    def overtaken(_: Sequence[Delivery]) -> None:
        """While the old message is in this relay's hand, its shards are taken, and a newer state is delivered."""
        paused.before = lambda _: None
        close(stores, invite.id)
        write(stores.source, "DELETE FROM outbox_leases")
        write(stores.source, "DELETE FROM outbox_relays")
        with draining(stores) as other:
            by_the_other.extend(outcomes(drain_all(other)))
        watch_mirror(stores)

    with gateway_of(stores) as real:
        paused = Meddling(real, before=overtaken)
        with draining(stores, paused) as late:
            assert outcomes(late.batch()) == [Outcome.LEASE_LOST]
    assert by_the_other == [Outcome.DELIVERED]
    assert status_at_gateway(stores, invite.id) == status
    assert "active" not in statuses_seen(stores)
    assert stores.states() == ["superseded", "delivered"]


@pytest.mark.parametrize("older", ["available_at = 1", "state = 'pending', available_at = NULL"])
def test_p05_an_invite_revoked_while_its_contact_was_missing_is_never_active_at_the_gateway(
    stores: Stores, older: str
) -> None:
    watch_mirror(stores)
    with freeze_time(START) as frozen:
        invite = stores.create(contact_id="co-late").invite
        with draining(stores) as drain:
            assert outcomes(drain_all(drain)) == [Outcome.REFUSED_FOR_NOW]
            frozen.tick(timedelta(milliseconds=100))
            stores.revoke(invite.id)
            assert outcomes(drain_all(drain)) == [Outcome.REFUSED_FOR_NOW]
            assert stores.states() == ["retrying", "retrying"]
            stores.add_contact("co-late")
            # The older one is due, the newer one is not yet.
            write(stores.source, f"UPDATE outbox_messages SET {older} WHERE seq = 1")
            drain_all(drain)
            frozen.tick(timedelta(hours=1))
            drain_all(drain)
    assert statuses_seen(stores) == ["revoked"]
    assert stores.states() == ["superseded", "delivered"]


def test_p05_an_older_message_is_not_delivered_once_a_newer_one_of_its_key_is_dead(stores: Stores) -> None:
    watch_mirror(stores)
    invite = stores.create(contact_id="co-late").invite
    stores.revoke(invite.id)
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1 WHERE seq = 2")
    stores.add_contact("co-late")
    with draining(stores) as drain:
        drain_all(drain)
        assert statuses_seen(stores) == []
        assert stores.states() == ["dead", "dead"]
        assert "`relay dead retry 2`" in stores.messages()[0]["last_error"]
        assert retry_dead(stores.source, 2) == 2
        drain_all(drain)
    assert statuses_seen(stores) == ["revoked"]
    assert stores.states() == ["superseded", "delivered"]


@CLOSINGS
def test_p05_a_clock_that_steps_back_before_the_closing_keeps_it_closed(
    stores: Stores, close: Close, status: str
) -> None:
    with freeze_time(START) as frozen:
        invite = stores.create().invite
        with draining(stores) as drain:
            drain_all(drain)
            frozen.move_to(START - timedelta(days=1))
            close(stores, invite.id)
            enqueue_selected(stores.source, Selection(), lambda _: None)
            drain_all(drain)
            drain_all(drain)
    assert status_at_gateway(stores, invite.id) == status
    assert "pending" not in stores.states()


def test_p05_a_replay_that_read_just_before_a_revoke_gives_way_by_version(stores: Stores) -> None:
    invite = stores.create().invite
    stores.revoke(invite.id)
    # The stale copy of the replay has the later seq and the older state.
    write(
        stores.source,
        """
        INSERT INTO outbox_messages (topic, key, version, shard, payload, origin, enqueued_at, state)
        SELECT topic, key, version, shard, payload, 'replay', enqueued_at, 'pending' FROM outbox_messages WHERE seq = 1
        """,
    )
    watch_mirror(stores)
    with draining(stores) as drain:
        drain_all(drain)
    assert status_at_gateway(stores, invite.id) == "revoked"
    assert statuses_seen(stores) == ["revoked"]
    assert stores.states() == ["superseded", "delivered", "superseded"]
