"""Mirroring one invite in the caller's transaction."""

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import (
    ContactMissingError,
    ImmutableFieldError,
    InvalidPayloadError,
    InvitePayload,
    Mirrored,
    MirrorRefusedError,
    StoredRowError,
    get_invite,
    mirror_create,
    upsert_contact,
)
from tests.conftest import rows, write
from tests.gateway_store.examples import OTHER_HASH, RECORDED, REDEEMED, deliver, invite, payload, stored

REFUSED: list[tuple[dict[str, Any], type[MirrorRefusedError]]] = [
    (payload(id="other", contactId="no-such"), ContactMissingError),
    (payload(id="other", maxUses=0), InvalidPayloadError),
    (payload(tokenHash=OTHER_HASH), ImmutableFieldError),
]


def test_a_new_invite_is_created_with_every_column(mirror: Engine) -> None:
    outcome = deliver(mirror, RECORDED)
    assert (outcome.status, outcome.invite) == (Mirrored.CREATED, invite())
    assert list(rows(mirror, "SELECT * FROM ingress_invites")[0].values()) == list(RECORDED.values())


def test_a_voice_invite_is_created_with_every_column(mirror: Engine) -> None:
    voice = payload(
        sourceChannel="phone",
        inviteCodeHash=None,
        voiceCodeHash=OTHER_HASH,
        voiceCodeDigits=6,
        expectedExternalUserId="+4915112345678",
        friendName="Grace",
        guardianName="Zoë 🌍",
        sourceConversationId="conv-1",
        note="with a\nline and a %, a ' and a :colon",
    )
    deliver(mirror, voice)
    assert list(rows(mirror, "SELECT * FROM ingress_invites")[0].values()) == list(voice.values())


def test_repeating_an_invite_changes_nothing(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    repeated = deliver(mirror, RECORDED)
    assert (repeated.status, repeated.invite) == (Mirrored.UNCHANGED, invite())


def test_a_newer_state_advances_the_row(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    outcome = deliver(mirror, REDEEMED)
    assert outcome.status is Mirrored.ADVANCED
    assert outcome.invite == stored(mirror)
    assert list(rows(mirror, "SELECT * FROM ingress_invites")[0].values()) == list(REDEEMED.values())


def test_an_invite_may_move_to_another_contact(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    with Session(mirror) as session, session.begin():
        upsert_contact(session, id="co-2", display_name="Grace")
    deliver(mirror, payload(contactId="co-2", updatedAt=RECORDED["updatedAt"] + 1))
    assert stored(mirror).contact_id == "co-2"


def test_a_model_is_as_good_as_a_dict(mirror: Engine) -> None:
    model = InvitePayload.model_validate(RECORDED)
    with Session(mirror) as session, session.begin():
        outcome = mirror_create(session, model)
    assert (outcome.status, outcome.invite) == (Mirrored.CREATED, invite())


def test_nothing_is_committed_for_the_caller(mirror: Engine) -> None:
    with Session(mirror) as session:
        mirror_create(session, RECORDED)
        assert get_invite(session, "rec-16197") is not None
        assert rows(mirror, "SELECT id FROM ingress_invites") == []
        session.rollback()
    assert rows(mirror, "SELECT id FROM ingress_invites") == []


def test_a_savepoint_of_the_callers_takes_the_invite_back_alone(mirror: Engine) -> None:
    with Session(mirror) as session, session.begin():
        mirror_create(session, payload(id="kept"))
        savepoint = session.begin_nested()
        mirror_create(session, payload(id="dropped"))
        savepoint.rollback()
    assert rows(mirror, "SELECT id FROM ingress_invites") == [{"id": "kept"}]


@pytest.mark.parametrize(("refused", "error"), REFUSED)
def test_a_refusal_leaves_the_rest_of_the_transaction_intact(
    mirror: Engine, refused: dict[str, Any], error: type[MirrorRefusedError]
) -> None:
    with Session(mirror) as session, session.begin():
        mirror_create(session, RECORDED)
        with pytest.raises(error):
            mirror_create(session, refused)
        mirror_create(session, payload(id="after"))
    assert rows(mirror, "SELECT id FROM ingress_invites ORDER BY id") == [{"id": "after"}, {"id": "rec-16197"}]
    assert stored(mirror) == invite()


def test_an_unknown_contact_is_refused_in_the_words_that_clients_look_for(mirror: Engine) -> None:
    with pytest.raises(ContactMissingError, match="FOREIGN KEY constraint failed: contact 'no-such' of invite"):
        deliver(mirror, payload(contactId="no-such"))
    assert rows(mirror, "SELECT id FROM ingress_invites") == []


def test_an_invite_is_accepted_once_its_contact_is_there(mirror: Engine) -> None:
    waiting = payload(contactId="late")
    with pytest.raises(ContactMissingError):
        deliver(mirror, waiting)
    with Session(mirror) as session, session.begin():
        upsert_contact(session, id="late", display_name="Late")
    assert deliver(mirror, waiting).status is Mirrored.CREATED


def test_a_row_may_not_move_to_an_unknown_contact(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    with pytest.raises(ContactMissingError):
        deliver(mirror, payload(contactId="no-such", updatedAt=RECORDED["updatedAt"] + 1))
    assert stored(mirror) == invite()


@pytest.mark.parametrize(
    "another",
    [
        {"sourceChannel": "phone"},
        {"tokenHash": OTHER_HASH},
        {"inviteCodeHash": None},
        {"inviteCodeHash": OTHER_HASH},
        {"voiceCodeHash": OTHER_HASH},
        {"voiceCodeDigits": 6},
        {"maxUses": 2},
        {"createdAt": 1},
    ],
)
def test_another_invite_under_a_known_id_is_refused_and_changes_nothing(mirror: Engine, another: Any) -> None:
    deliver(mirror, RECORDED)
    with pytest.raises(ImmutableFieldError, match="relay verify --id rec-16197"):
        deliver(mirror, REDEEMED | another)
    assert stored(mirror) == invite()


@pytest.mark.parametrize("close", ["revoked", "expired", "redeemed"])
def test_an_invite_whose_contact_is_gone_can_still_be_closed(mirror: Engine, close: str) -> None:
    deliver(mirror, RECORDED)
    _without_foreign_keys(mirror, "DELETE FROM contacts")
    outcome = deliver(mirror, payload(status=close, updatedAt=RECORDED["updatedAt"] + 1))
    assert (outcome.status, stored(mirror).status) == (Mirrored.ADVANCED, close)


def test_a_stored_row_of_an_unknown_status_is_refused_by_id(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    write(mirror, "UPDATE ingress_invites SET status = 'paused'")
    with pytest.raises(StoredRowError, match="rec-16197 has the unknown status 'paused'"):
        deliver(mirror, REDEEMED)


@pytest.mark.only("sqlite", because="PostgreSQL keeps no text in an integer column")
@pytest.mark.parametrize(
    "spoil",
    ["redeemed_at = 'yesterday', redeemed_by_external_user_id = 'u9', use_count = 1", "updated_at = 'yesterday'"],
)
def test_a_stored_row_with_text_for_an_integer_is_refused_by_id(mirror: Engine, spoil: str) -> None:
    deliver(mirror, RECORDED)
    write(mirror, f"UPDATE ingress_invites SET {spoil}")
    with pytest.raises(StoredRowError, match="rec-16197 has a value of the wrong type"):
        deliver(mirror, REDEEMED)


def test_an_unknown_invite_is_none(mirror: Engine) -> None:
    with Session(mirror) as session:
        assert get_invite(session, "no-such") is None


def _without_foreign_keys(engine: Engine, statement: str) -> None:
    with engine.connect() as connection:
        cursor = connection.connection.cursor()
        sqlite = engine.dialect.name == "sqlite"
        cursor.execute("PRAGMA foreign_keys=OFF" if sqlite else "SET session_replication_role = replica")
        cursor.execute(statement)
        cursor.execute("PRAGMA foreign_keys=ON" if sqlite else "RESET session_replication_role")
        cursor.close()
