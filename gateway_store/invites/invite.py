"""The invite as the gateway keeps it."""

from collections.abc import Callable
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Column, MetaData, Row, Table, Text

TABLE = "ingress_invites"


class Status(StrEnum):
    """In the order of `RANK`: a status never gives way to one of a lower rank."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"
    REDEEMED = "redeemed"


RANK = {status.value: rank for rank, status in enumerate(Status)}


class Invite(NamedTuple):
    """One row of ``ingress_invites``. Instants are epoch ms. ``token_hash`` is None in rows older than the mirror.

    A tuple, since a relay makes and compares thousands a second, and each is the row to be written as it stands.
    """

    id: str
    source_channel: str
    token_hash: str | None
    source_conversation_id: str | None
    note: str | None
    max_uses: int
    use_count: int
    expires_at: int
    status: str
    redeemed_by_external_user_id: str | None
    redeemed_by_external_chat_id: str | None
    redeemed_at: int | None
    expected_external_user_id: str | None
    voice_code_hash: str | None
    voice_code_digits: int | None
    invite_code_hash: str | None
    friend_name: str | None
    guardian_name: str | None
    contact_id: str
    created_at: int
    updated_at: int

    def __repr__(self) -> str:
        shown = (f"{name}={value!r}" for name, value in zip(COLUMNS, self, strict=True) if name not in SECRETS)
        return f"Invite({', '.join(shown)})"


COLUMNS = Invite._fields
SECRETS = frozenset({"token_hash", "voice_code_hash", "invite_code_hash"})
INTEGERS = frozenset(
    {"max_uses", "use_count", "expires_at", "redeemed_at", "voice_code_digits", "created_at", "updated_at"}
)
TYPES = {name: "bigint" if name in INTEGERS else "text" for name in COLUMNS}
INVITES = Table(
    TABLE,
    MetaData(),
    *(Column(name, BigInteger() if name in INTEGERS else Text(), primary_key=name == "id") for name in COLUMNS),
)
values_of: Callable[[object], tuple[Any, ...]] = attrgetter(*COLUMNS)
"""Of anything with an invite's attributes, in the order of `COLUMNS`."""


def invite_of(row: Row[Any]) -> Invite:
    return Invite._make(row)
