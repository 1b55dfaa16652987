"""The rows of the verdict table in which the gateway answers: delivered, refused for now, refused for good."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy.orm import Session

from assistant_store.invites.enqueue import enqueue_invites
from outbox import Origin, Outcome
from outbox.dead import retry_dead
from tests.conftest import Stores, write
from tests.relay.rig import Meddling, drain_all, draining, gateway_of, outcomes

START = datetime(2026, 5, 13, 14, 11, tzinfo=UTC)


def test_a_new_invite_is_delivered_and_mirrored_whole(stores: Stores) -> None:
    created = stores.create(note="für dich", max_uses=3)
    with draining(stores) as drain:
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert stores.states() == ["delivered"]
    mirrored = stores.mirrored(created.invite.id)
    assert mirrored is not None
    assert mirrored._asdict() == asdict(created.invite)


def test_a_message_already_at_the_gateway_is_delivered_again_without_harm(stores: Stores) -> None:
    created = stores.create()
    with draining(stores) as drain:
        drain_all(drain)
        before = stores.mirrored(created.invite.id)
        write(stores.source, "UPDATE outbox_messages SET state = 'pending', settled_at = NULL")
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert stores.mirrored(created.invite.id) == before
    assert stores.states() == ["delivered"]


def test_only_the_newest_message_of_a_key_is_delivered_and_the_others_are_superseded(stores: Stores) -> None:
    invite = stores.create(max_uses=5).invite
    stores.use(invite.id)
    stores.revoke(invite.id)
    with gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            drain_all(drain)
    assert gateway.delivered == [[invite.id]]
    assert stores.states() == ["superseded", "superseded", "delivered"]


def test_of_two_messages_with_the_same_state_one_is_delivered_and_both_are_settled(stores: Stores) -> None:
    invite = stores.create().invite
    with Session(stores.source) as session, session.begin():
        enqueue_invites(session, session.connection(), [invite], Origin.REPLAY)
    with gateway_of(stores) as real:
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            drain_all(drain)
    assert gateway.delivered == [[invite.id]]
    assert stores.states() == ["superseded", "delivered"]


def test_a_missing_contact_is_retried_with_waits_that_grow_and_ends_dead_after_24_hours(stores: Stores) -> None:
    waits: list[int] = []
    with freeze_time(START) as frozen:
        stores.create(contact_id="co-late")
        with draining(stores) as drain:
            while True:
                drain_all(drain)
                (row,) = stores.messages()
                if row["state"] == "dead":
                    break
                assert row["state"] == "retrying"
                waits.append(row["available_at"] - _now_ms(frozen()))
                # One more: the frozen clock rounds down.
                frozen.tick(timedelta(milliseconds=waits[-1] + 1))
        ended = frozen()
    assert row["attempts"] == len(waits) + 1
    assert "contact 'co-late'" in row["last_error"]
    assert "given up after 1 day" in row["last_error"]
    assert timedelta(hours=24) <= ended - START.replace(tzinfo=None) <= timedelta(hours=24, minutes=10)
    assert all(500 * 2**n <= wait <= 1_000 * 2**n for n, wait in enumerate(waits[:9]))
    assert all(300_000 <= wait <= 600_000 for wait in waits[10:])
    assert len(set(waits[10:])) > len(waits[10:]) / 2, "without jitter they would be equal"


def test_a_retrying_message_is_left_alone_until_it_is_due(stores: Stores) -> None:
    with freeze_time(START) as frozen:
        stores.create(contact_id="co-late")
        with draining(stores, retry_first=60) as drain:
            assert outcomes(drain_all(drain)) == [Outcome.REFUSED_FOR_NOW]
            frozen.tick(timedelta(seconds=29))
            assert drain_all(drain) == []
            frozen.tick(timedelta(seconds=31))
            assert outcomes(drain_all(drain)) == [Outcome.REFUSED_FOR_NOW]


def test_a_due_time_beyond_every_possible_wait_counts_as_due(stores: Stores) -> None:
    # The clock stepped back by a day after the refusal.
    with freeze_time(START) as frozen:
        stores.create(contact_id="co-late")
        with draining(stores) as drain:
            drain_all(drain)
            frozen.move_to(START - timedelta(days=1))
            assert outcomes(drain.batch()) == [Outcome.REFUSED_FOR_NOW]


def test_a_contact_that_arrives_heals_its_waiting_invites(stores: Stores) -> None:
    with freeze_time(START) as frozen:
        ids = [stores.create(contact_id="co-late").invite.id for _ in range(3)]
        with draining(stores) as drain:
            drain_all(drain)
            assert stores.states() == ["retrying"] * 3
            stores.add_contact("co-late")
            frozen.tick(timedelta(seconds=1))
            assert outcomes(drain_all(drain)) == [Outcome.DELIVERED] * 3
    assert stores.states() == ["delivered"] * 3
    assert all(stores.mirrored(id_) is not None for id_ in ids)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"topic": "contact.mirror"}, "unknown topic 'contact.mirror'"),
        ({"payload": "{"}, "not JSON"),
        ({"payload": "[]"}, "invalid invite"),
        ({"payload": "[" * 100_000}, "not JSON"),
        ({"status": "paused"}, "status"),
        ({"maxUses": 0}, "maxUses"),
        ({"useCount": True}, "useCount"),
        ({"note": "a\x00b"}, "note"),
        ({"updatedAt": 2**53}, "updatedAt"),
        ({"tokenHash": None}, "tokenHash"),
    ],
)
def test_a_message_that_can_never_be_applied_is_dead_at_once_and_says_why(
    stores: Stores, change: dict[str, Any], named: str
) -> None:
    stores.create()
    (row,) = stores.messages()
    columns = {name: value for name, value in change.items() if name in ("topic", "payload")}
    payload = json.dumps(json.loads(row["payload"]) | {k: v for k, v in change.items() if k not in columns})
    values = {"topic": row["topic"], "payload": payload} | columns
    write(stores.source, "UPDATE outbox_messages SET topic = :topic, payload = :payload", **values)
    with draining(stores) as drain:
        assert outcomes(drain_all(drain)) == [Outcome.REFUSED_FOR_GOOD]
    (row,) = stores.messages()
    assert (row["state"], row["attempts"]) == ("dead", 1)
    assert named in row["last_error"]


@pytest.mark.parametrize(
    ("column", "value"),
    [("token_hash", "f" * 64), ("max_uses", 99), ("source_channel", "sms"), ("created_at", 1)],
)
def test_another_invite_under_the_same_id_is_refused_for_good_and_names_the_field(
    stores: Stores, column: str, value: str | int
) -> None:
    invite = stores.create().invite
    with draining(stores) as drain:
        drain_all(drain)
        before = stores.mirrored(invite.id)
        write(stores.mirror, f"UPDATE ingress_invites SET {column} = :value", value=value)
        tampered = stores.mirrored(invite.id)
        stores.revoke(invite.id)
        drain_all(drain)
    assert before != tampered
    assert stores.mirrored(invite.id) == tampered
    row = stores.messages()[-1]
    assert (row["state"], row["attempts"]) == ("dead", 1)
    assert column in row["last_error"]
    assert invite.id in row["last_error"]


def test_a_dead_letter_that_is_retried_after_its_cause_is_gone_is_delivered(stores: Stores) -> None:
    invite = stores.create().invite
    with draining(stores) as drain:
        drain_all(drain)
        write(stores.mirror, "UPDATE ingress_invites SET max_uses = 99")
        stores.revoke(invite.id)
        drain_all(drain)
        write(stores.mirror, "UPDATE ingress_invites SET max_uses = 1")
        dead = stores.messages("state = 'dead'")
        assert [retry_dead(stores.source, row["seq"]) for row in dead] == [1]
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    mirrored = stores.mirrored(invite.id)
    assert mirrored is not None
    assert mirrored.status == "revoked"


def _now_ms(instant: datetime) -> int:
    return int(instant.replace(tzinfo=UTC).timestamp() * 1_000)
