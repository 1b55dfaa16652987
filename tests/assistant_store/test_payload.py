"""A message's payload is exactly the row after the change, in camelCase and ASCII, and the version of that form."""

import json

import pytest

from tests.assistant_store.test_create_rules import VOICE
from tests.conftest import Stores, rows

CAMEL = {
    "id": "id",
    "source_channel": "sourceChannel",
    "token_hash": "tokenHash",
    "source_conversation_id": "sourceConversationId",
    "note": "note",
    "max_uses": "maxUses",
    "use_count": "useCount",
    "expires_at": "expiresAt",
    "status": "status",
    "redeemed_by_external_user_id": "redeemedByExternalUserId",
    "redeemed_by_external_chat_id": "redeemedByExternalChatId",
    "redeemed_at": "redeemedAt",
    "expected_external_user_id": "expectedExternalUserId",
    "voice_code_hash": "voiceCodeHash",
    "voice_code_digits": "voiceCodeDigits",
    "invite_code_hash": "inviteCodeHash",
    "friend_name": "friendName",
    "guardian_name": "guardianName",
    "contact_id": "contactId",
    "created_at": "createdAt",
    "updated_at": "updatedAt",
}


def stored_in_camel_case(stores: Stores) -> dict[str, object]:
    (row,) = rows(stores.source, "SELECT * FROM assistant_ingress_invites")
    return {CAMEL[name]: value for name, value in row.items()} | {"schemaVersion": 1}


@pytest.mark.parametrize("given", [{}, VOICE, {"note": 'für 😀 " \\ \u2028', "max_uses": 2, "friend_name": ""}])
def test_a_new_invites_payload_is_its_row(stores: Stores, given: dict[str, object]) -> None:
    stores.create(**given)

    (message,) = stores.messages()
    assert json.loads(message["payload"]) == stored_in_camel_case(stores)
    assert len(stored_in_camel_case(stores)) == 22


def test_each_change_carries_the_row_as_it_is_then(stores: Stores) -> None:
    invite = stores.create(max_uses=2).invite
    stores.use(invite.id, external_user_id="user-1", external_chat_id="chat-1")
    after_use = stored_in_camel_case(stores)
    stores.revoke(invite.id)
    after_revoke = stored_in_camel_case(stores)

    _, use, revoke = (json.loads(row["payload"]) for row in stores.messages())

    assert (use, revoke) == (after_use, after_revoke)
    assert (use["useCount"], use["redeemedByExternalUserId"], revoke["status"]) == (1, "user-1", "revoked")


def test_a_payload_is_one_line_of_ascii(stores: Stores) -> None:
    stores.create(note="für 😀\r\n\u2028")

    (message,) = stores.messages()
    assert message["payload"].isascii()
    assert message["payload"].isprintable()
