"""What the mirror's tables look like, whatever the database."""

TABLE = "ingress_invites"
CLOSED = f"{TABLE}_closed"
OLD = {
    "id": "text",
    "source_channel": "text",
    "invite_code_hash": "text",
    "note": "text",
    "max_uses": "integer",
    "use_count": "integer",
    "expires_at": "integer",
    "status": "text",
    "redeemed_by_external_user_id": "text",
    "redeemed_by_external_chat_id": "text",
    "redeemed_at": "integer",
    "contact_id": "text",
    "created_at": "integer",
    "updated_at": "integer",
}
ADDED = {
    "token_hash": "text",
    "source_conversation_id": "text",
    "expected_external_user_id": "text",
    "voice_code_hash": "text",
    "voice_code_digits": "integer",
    "friend_name": "text",
    "guardian_name": "text",
}
CONTACT_COLUMNS = ("id", "display_name", "role", "principal_id", "created_at", "updated_at")

REQUIRED = (
    "source_channel",
    "max_uses",
    "use_count",
    "expires_at",
    "status",
    "contact_id",
    "created_at",
    "updated_at",
)
DEFAULTS = {"max_uses": "1", "use_count": "0", "status": "'active'"}

# An id is compared and sorted by its bytes, on every database alike: {bytewise}.
CREATE_CONTACTS = """
    CREATE TABLE contacts (
        id TEXT{bytewise} NOT NULL PRIMARY KEY,
        display_name TEXT NOT NULL,
        role TEXT NOT NULL DEFAULT 'contact',
        principal_id TEXT,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )
"""
CREATE_INVITES = """
    CREATE TABLE {table} (
        id TEXT{bytewise} NOT NULL PRIMARY KEY,
        source_channel TEXT NOT NULL,
        token_hash TEXT,
        source_conversation_id TEXT,
        note TEXT,
        max_uses BIGINT NOT NULL DEFAULT 1,
        use_count BIGINT NOT NULL DEFAULT 0,
        expires_at BIGINT NOT NULL,
        status TEXT NOT NULL DEFAULT 'active',
        redeemed_by_external_user_id TEXT,
        redeemed_by_external_chat_id TEXT,
        redeemed_at BIGINT,
        expected_external_user_id TEXT,
        voice_code_hash TEXT,
        voice_code_digits BIGINT,
        invite_code_hash TEXT,
        friend_name TEXT,
        guardian_name TEXT,
        contact_id TEXT{bytewise} NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )
"""
# A deleted contact takes its invites along; a late copy of one that was used or closed must still find it closed.
CREATE_CLOSED = """
    CREATE TABLE ingress_invites_closed (
        id TEXT{bytewise} NOT NULL PRIMARY KEY,
        status TEXT NOT NULL,
        use_count BIGINT NOT NULL
    )
"""
INDEXES = {
    "idx_ingress_invites_token_lookup": "token_hash",
    "idx_ingress_invites_code_lookup": "invite_code_hash, source_channel",
    "idx_ingress_invites_voice_lookup": "voice_code_hash, source_channel",
    "idx_ingress_invites_contact": "contact_id",
}
# Most invites have one of the two codes: the other's index does without them, and a look-up by a code still uses it.
ONLY_WHERE = {
    "idx_ingress_invites_code_lookup": "invite_code_hash IS NOT NULL",
    "idx_ingress_invites_voice_lookup": "voice_code_hash IS NOT NULL",
}
TRIGGERS = (f"{TABLE}_remember_closed", f"{TABLE}_remember_closed_all")


def create_index(name: str) -> str:
    where = f" WHERE {ONLY_WHERE[name]}" if name in ONLY_WHERE else ""
    return f"CREATE INDEX {name} ON {TABLE} ({INDEXES[name]}){where}"
