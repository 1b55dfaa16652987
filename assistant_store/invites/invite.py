"""The invite as the daemon keeps it, and the JSON that copies it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter
from typing import Any

from sqlalchemy import BigInteger, Column, MetaData, Row, Table, Text

from assistant_store.errors import StoredInviteError
from outbox.database.driver import is_plain_text
from outbox.pages import shown_id

TABLE = "assistant_ingress_invites"
SCHEMA_VERSION = 1
"""Of the payload; it grows when a gateway that does not know the change must not guess at it."""


class Status(StrEnum):
    ACTIVE = "active"
    REDEEMED = "redeemed"
    REVOKED = "revoked"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Invite:
    """One row of ``assistant_ingress_invites``. Instants are epoch ms; the hashes are SHA-256 hex, left out of repr."""

    id: str
    source_channel: str
    token_hash: str = field(repr=False)
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
    voice_code_hash: str | None = field(repr=False)
    voice_code_digits: int | None
    invite_code_hash: str | None = field(repr=False)
    friend_name: str | None
    guardian_name: str | None
    contact_id: str
    created_at: int
    updated_at: int


COLUMNS = tuple(one.name for one in fields(Invite))
INTEGERS = frozenset(
    {"max_uses", "use_count", "expires_at", "redeemed_at", "voice_code_digits", "created_at", "updated_at"}
)
TYPES = {name: "bigint" if name in INTEGERS else "text" for name in COLUMNS}
NULLABLE = frozenset(
    {
        "source_conversation_id",
        "note",
        "redeemed_by_external_user_id",
        "redeemed_by_external_chat_id",
        "redeemed_at",
        "expected_external_user_id",
        "voice_code_hash",
        "voice_code_digits",
        "invite_code_hash",
        "friend_name",
        "guardian_name",
    }
)
INVITES = Table(
    TABLE,
    MetaData(),
    *(
        Column(
            name,
            BigInteger() if name in INTEGERS else Text(),
            primary_key=name == "id",
            nullable=name in NULLABLE,
        )
        for name in COLUMNS
    ),
)


values_of: Callable[[object], tuple[Any, ...]] = attrgetter(*COLUMNS)
"""The row of an invite, in the order of `COLUMNS`."""


_KINDS = tuple({int if name in INTEGERS else str} | ({type(None)} if name in NULLABLE else set()) for name in COLUMNS)


def invite_of(row: Row[Any]) -> Invite:
    return Invite(*tuple(row))


def checked_row(row: Sequence[Any]) -> Invite:
    """The invite in a row that is to be mirrored; `StoredInviteError` where a column has a value of another kind.

    A column of SQLite takes any, and who wrote it need not have used this library.
    """
    invite = Invite(*row)
    odd = [name for name, value, kinds in zip(COLUMNS, row, _KINDS, strict=True) if type(value) not in kinds]
    if not is_plain_text(invite.id):
        odd.append(COLUMNS[0])
    if odd:
        raise StoredInviteError(
            f"invite {shown_id(row[0])} has a value of the wrong kind in {', '.join(dict.fromkeys(odd))}; "
            "correct that row by hand"
        )
    return invite


def payload_of(invite: Invite) -> str:
    """The whole row as JSON in camelCase, ASCII only: it crosses sockets that split characters between packets."""
    return _encode(dict(zip(_CAMEL, values_of(invite), strict=True)) | {"schemaVersion": SCHEMA_VERSION})


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_CAMEL = tuple(map(_camel, COLUMNS))
_encode = json.JSONEncoder(separators=(",", ":")).encode
