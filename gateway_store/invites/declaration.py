"""How two states of an invite become one. `assistant_store` declares the same, and a test compares the two."""

from gateway_store.invites.invite import Status
from outbox.mirroring.declaration import Declaration, Follows, Immutable, Larger, Ranked, latest

# The token's hash is unknown only in rows older than the mirror, and only they have NULLs that may be filled.
_ORIGIN = Immutable(unknown_while_null="token_hash")
_OF_THE_USE = Follows("use_count")
_EDITED = latest("updated_at")

# A redeemed, revoked or expired invite stays closed because `active` is the lowest status of all.
INVITE = Declaration(
    name="invite",
    key="id",
    fields=(
        ("source_channel", _ORIGIN),
        ("token_hash", _ORIGIN),
        ("invite_code_hash", _ORIGIN),
        ("voice_code_hash", _ORIGIN),
        ("voice_code_digits", _ORIGIN),
        ("max_uses", _ORIGIN),
        ("created_at", _ORIGIN),
        ("status", Ranked(tuple(status.value for status in Status))),
        ("use_count", Larger()),
        ("redeemed_by_external_user_id", _OF_THE_USE),
        ("redeemed_by_external_chat_id", _OF_THE_USE),
        ("redeemed_at", _OF_THE_USE),
        ("updated_at", Larger()),
        ("source_conversation_id", _EDITED),
        ("note", _EDITED),
        ("expires_at", _EDITED),
        ("expected_external_user_id", _EDITED),
        ("friend_name", _EDITED),
        ("guardian_name", _EDITED),
        ("contact_id", _EDITED),
    ),
)
