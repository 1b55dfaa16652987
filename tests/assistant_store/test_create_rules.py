"""What `create_invite` refuses: the field is named, its value is not, and nothing is written."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.orm import Session

from assistant_store import InvalidInviteError, create_invite
from outbox.clock import now_ms
from tests.conftest import Stores, rows

VOICE = {
    "source_channel": "phone",
    "expected_external_user_id": "+15551234567",
    "friend_name": "Friend",
    "guardian_name": "Guardian",
}
TEXTS = (
    "source_channel",
    "contact_id",
    "note",
    "source_conversation_id",
    "expected_external_user_id",
    "friend_name",
    "guardian_name",
)
LARGEST = 2**53 - 1


def refused(stores: Stores, field: str, **given: Any) -> str:
    """Creating fails and names the field, with nothing written; returns the message."""
    with pytest.raises(InvalidInviteError, match=f"^cannot create the invite: .*{field}") as raised:
        stores.create(**given)

    assert rows(stores.source, "SELECT id FROM assistant_ingress_invites") == []
    assert stores.messages() == []
    return str(raised.value)


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u00a0"])
@pytest.mark.parametrize("field", ["source_channel", "contact_id"])
def test_a_channel_and_a_contact_are_required(stores: Stores, field: str, blank: str) -> None:
    assert "blank" in refused(stores, field, **{field: blank})


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize(
    ("text", "problem"),
    [("secret\x00", "NUL character"), ("secret\ud800", "lone surrogate"), ("\udfffsecret", "lone surrogate")],
    ids=["NUL", "high surrogate", "low surrogate"],
)
def test_text_that_no_mirror_could_store_is_refused(stores: Stores, field: str, text: str, problem: str) -> None:
    message = refused(stores, field, **VOICE | {field: text})

    assert problem in message
    assert "secret" not in message


@pytest.mark.parametrize("field", TEXTS)
def test_text_too_long_for_a_message_is_refused(stores: Stores, field: str) -> None:
    assert "xxxx" not in refused(stores, field, **VOICE | {field: "x" * 16_385})


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("wrong", [42, b"bytes", ["list"], True])
def test_what_is_no_text_is_refused(stores: Stores, field: str, wrong: object) -> None:
    refused(stores, field, **VOICE | {field: wrong})


@pytest.mark.parametrize("max_uses", [0, -1, True, False, 1.0, "1", None, LARGEST + 1, 2**80])
def test_max_uses_is_a_whole_number_from_1_that_every_reader_can_hold(stores: Stores, max_uses: object) -> None:
    refused(stores, "max_uses", max_uses=max_uses)


@pytest.mark.parametrize(
    "expires_in", [timedelta(0), timedelta(seconds=-1), timedelta.max, 3600, 1.5, "7d", "P7D", None]
)
def test_expires_in_is_a_positive_duration_within_what_an_instant_can_be(stores: Stores, expires_in: object) -> None:
    refused(stores, "expires_in", expires_in=expires_in)


@pytest.mark.parametrize(
    "number",
    [
        None,
        "",
        "19998887766",
        "+123456789",
        "+1234567890123456",
        "+1999888776a",
        "+1999 8887766",
        "+19998887766\n",
        " +19998887766",
        "+١٢٣٤٥٦٧٨٩٠",
    ],
)
def test_a_voice_invite_needs_a_number_in_e164(stores: Stores, number: str | None) -> None:
    message = refused(stores, "expected_external_user_id", **VOICE | {"expected_external_user_id": number})

    assert not number or number.strip() not in message


@pytest.mark.parametrize("number", ["+1234567890", "+123456789012345"])
def test_a_number_of_10_to_15_digits_is_accepted(stores: Stores, number: str) -> None:
    created = stores.create(**VOICE | {"expected_external_user_id": number})

    assert created.invite.expected_external_user_id == number


@pytest.mark.parametrize("blank", [None, "", "  ", "\n"])
@pytest.mark.parametrize("field", ["friend_name", "guardian_name"])
def test_a_voice_invite_needs_both_names(stores: Stores, field: str, blank: str | None) -> None:
    refused(stores, field, **VOICE | {field: blank})


def test_every_field_at_fault_is_named(stores: Stores) -> None:
    message = refused(stores, "contact_id", contact_id=" ", max_uses=0, expires_in=timedelta(0))

    assert all(name in message for name in ("contact_id", "max_uses", "expires_in"))


def test_a_refusal_leaves_the_callers_transaction_usable(stores: Stores) -> None:
    with Session(stores.source) as session, session.begin():
        with pytest.raises(InvalidInviteError):
            create_invite(session, source_channel="telegram", contact_id="")
        create_invite(session, source_channel="telegram", contact_id="co-1")

    assert len(stores.messages()) == 1


def test_the_largest_values_are_accepted_and_kept(stores: Stores) -> None:
    invite = stores.create(max_uses=LARGEST, note="\u20ac" * 16_384).invite

    (row,) = rows(stores.source, "SELECT max_uses, note FROM assistant_ingress_invites")
    assert (row["max_uses"], row["note"]) == (invite.max_uses, "\u20ac" * 16_384)


def test_an_invite_lasts_7_days_and_one_use_unless_told(stores: Stores) -> None:
    before = now_ms()

    invite = stores.create().invite

    assert (invite.status, invite.max_uses, invite.use_count) == ("active", 1, 0)
    assert invite.expires_at - invite.created_at == 7 * 86_400_000
    assert invite.created_at == invite.updated_at >= before


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    note=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=50),
    expires_in=st.timedeltas(timedelta(milliseconds=1), timedelta(days=365_000)),
)
def test_any_other_text_and_duration_is_kept_as_it_is(stores: Stores, note: str, expires_in: timedelta) -> None:
    invite = stores.create(note=note, expires_in=expires_in).invite

    (row,) = rows(stores.source, f"SELECT note, expires_at FROM assistant_ingress_invites WHERE id = '{invite.id}'")
    assert row == {"note": note, "expires_at": invite.created_at + expires_in // timedelta(milliseconds=1)}
