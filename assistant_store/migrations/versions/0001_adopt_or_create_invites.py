"""The invite table: the daemon's existing one is adopted as it stands; where there is none, it is created."""

from alembic import op
from sqlalchemy import inspect

from outbox.database.shape import refuse_other_shape

revision = "0001"
down_revision = None

TABLE = "assistant_ingress_invites"
TEXT = ("id", "source_channel", "token_hash", "status", "contact_id")
OPTIONAL_TEXT = (
    "source_conversation_id",
    "note",
    "redeemed_by_external_user_id",
    "redeemed_by_external_chat_id",
    "expected_external_user_id",
    "voice_code_hash",
    "invite_code_hash",
    "friend_name",
    "guardian_name",
)
INTEGER = ("max_uses", "use_count", "expires_at", "created_at", "updated_at")
OPTIONAL_INTEGER = ("redeemed_at", "voice_code_digits")
EXPECTED = dict.fromkeys(TEXT + OPTIONAL_TEXT, "text") | dict.fromkeys(INTEGER + OPTIONAL_INTEGER, "integer")

CREATE = """
    CREATE TABLE {table} (
        id TEXT{bytewise} NOT NULL PRIMARY KEY,
        source_channel TEXT NOT NULL,
        token_hash TEXT NOT NULL,
        source_conversation_id TEXT,
        note TEXT,
        max_uses BIGINT NOT NULL,
        use_count BIGINT NOT NULL,
        expires_at BIGINT NOT NULL,
        status TEXT NOT NULL,
        redeemed_by_external_user_id TEXT,
        redeemed_by_external_chat_id TEXT,
        redeemed_at BIGINT,
        expected_external_user_id TEXT,
        voice_code_hash TEXT,
        voice_code_digits BIGINT,
        invite_code_hash TEXT,
        friend_name TEXT,
        guardian_name TEXT,
        contact_id TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        updated_at BIGINT NOT NULL
    )
"""


def upgrade() -> None:
    connection = op.get_bind()
    if inspect(connection).has_table(TABLE):
        refuse_other_shape(connection, TABLE, EXPECTED, nullable=OPTIONAL_TEXT + OPTIONAL_INTEGER)
        return
    # An id is compared and sorted by its bytes, on every database alike.
    bytewise = "" if connection.dialect.name == "sqlite" else ' COLLATE "C"'
    op.execute(CREATE.format(table=TABLE, bytewise=bytewise))
    op.execute(f"CREATE INDEX ix_{TABLE}_token_hash ON {TABLE} (token_hash)")
