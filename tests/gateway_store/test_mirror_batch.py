"""Mirroring many invites in one transaction: a verdict each, in order, and one bad message harms itself alone (P8)."""

import json
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import (
    ContactMissingError,
    ImmutableFieldError,
    InvalidPayloadError,
    InvitePayload,
    MirrorOutcome,
    StoredRowError,
    mirror_batch,
)
from gateway_store.invites.mirror import Payload
from tests.conftest import rows, write
from tests.gateway_store.examples import OTHER_HASH, RECORDED, REDEEMED, deliver, payload, stored


def verdicts(engine: Engine, payloads: list[Payload]) -> list[Any]:
    """Mirrored and committed; ``created`` and so on, or the class of the refusal."""
    with Session(engine) as session, session.begin():
        results = mirror_batch(session.connection(), payloads)
    return [result.status.value if isinstance(result, MirrorOutcome) else type(result) for result in results]


def ids(engine: Engine) -> list[str]:
    return [row["id"] for row in rows(engine, "SELECT id FROM ingress_invites ORDER BY id")]


def test_an_empty_batch_has_no_verdicts(mirror: Engine) -> None:
    assert verdicts(mirror, []) == []


def test_each_message_gets_its_own_verdict_in_the_order_given(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    batch: list[Payload] = [
        payload(id="b"),
        REDEEMED,
        "{not json",
        payload(id="a", contactId="no-such"),
        payload(tokenHash=OTHER_HASH),
        json.dumps(payload(id="c")),
        REDEEMED,
        InvitePayload.model_validate(payload(id="d")),
    ]
    assert verdicts(mirror, batch) == [
        "created",
        "advanced",
        InvalidPayloadError,
        ContactMissingError,
        ImmutableFieldError,
        "created",
        "unchanged",
        "created",
    ]
    assert ids(mirror) == ["b", "c", "d", "rec-16197"]


def test_several_states_of_a_new_invite_in_one_batch_merge_to_one_row(mirror: Engine) -> None:
    newer_note = payload(note="n", updatedAt=REDEEMED["updatedAt"] + 1)
    assert verdicts(mirror, [REDEEMED, RECORDED, newer_note, newer_note]) == [
        "created",
        "unchanged",
        "advanced",
        "unchanged",
    ]
    assert (stored(mirror).status, stored(mirror).note, stored(mirror).use_count) == ("redeemed", "n", 1)


def test_a_refused_state_in_a_batch_does_not_spoil_the_others_of_its_invite(mirror: Engine) -> None:
    batch: list[Payload] = [RECORDED, REDEEMED | {"maxUses": 5}, REDEEMED]
    assert verdicts(mirror, batch) == ["created", ImmutableFieldError, "advanced"]
    assert (stored(mirror).status, stored(mirror).max_uses) == ("redeemed", 1)


def test_a_stored_row_that_cannot_be_merged_with_harms_no_other_invite(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    write(mirror, "UPDATE ingress_invites SET status = 'paused'")
    assert verdicts(mirror, [payload(id="a"), REDEEMED, payload(id="b")]) == ["created", StoredRowError, "created"]


def test_a_batch_is_committed_by_the_caller_alone(mirror: Engine) -> None:
    with Session(mirror) as session:
        mirror_batch(session.connection(), [payload(id="a"), payload(id="b")])
        session.rollback()
    assert ids(mirror) == []


def test_a_thousand_invites_are_mirrored_in_one_batch(mirror: Engine) -> None:
    batch: list[Payload] = [payload(id=f"inv-{number:04}") for number in range(1_000)]
    assert verdicts(mirror, batch) == ["created"] * 1_000
    assert ids(mirror) == [f"inv-{number:04}" for number in range(1_000)]
