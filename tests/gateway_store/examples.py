"""Invites to deliver: the one recorded from the real gateway, states of an invite's life, and rows related by id."""

from functools import reduce
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import ImmutableFieldError, Invite, MirrorOutcome, get_invite, mirror_create
from gateway_store.invites.merge import merge

TOKEN_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
CODE_HASH = "8d969eef6ecad3c29a3a629280e686cf0c3f5d5a86aff3ca12020c923adc6c92"
OTHER_HASH = "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752"
LOWEST_TO_HIGHEST = ["active", "expired", "revoked", "redeemed"]

RECORDED: dict[str, Any] = {
    "id": "rec-16197",
    "sourceChannel": "telegram",
    "tokenHash": TOKEN_HASH,
    "sourceConversationId": None,
    "note": None,
    "maxUses": 1,
    "useCount": 0,
    "expiresAt": 1795999999000,
    "status": "active",
    "redeemedByExternalUserId": None,
    "redeemedByExternalChatId": None,
    "redeemedAt": None,
    "expectedExternalUserId": None,
    "voiceCodeHash": None,
    "voiceCodeDigits": None,
    "inviteCodeHash": CODE_HASH,
    "friendName": None,
    "guardianName": None,
    "contactId": "co-1",
    "createdAt": 1795400000000,
    "updatedAt": 1795400000000,
}
REDEEMED = RECORDED | {
    "useCount": 1,
    "status": "redeemed",
    "redeemedByExternalUserId": "u9",
    "redeemedAt": 1795400100000,
    "updatedAt": 1795400100000,
}


def payload(**given: Any) -> dict[str, Any]:
    """The recorded invite in camelCase, with ``given`` (camelCase too) in place of its own."""
    assert given.keys() <= RECORDED.keys()
    return RECORDED | given


def invite(**given: Any) -> Invite:
    """The recorded invite as a row, with ``given`` (the columns' names) in place of its own."""
    return Invite(**(_ROW | given))


_ROW: dict[str, Any] = dict(zip(Invite._fields, RECORDED.values(), strict=True))


def deliver(engine: Engine, params: dict[str, Any]) -> MirrorOutcome:
    """Mirrored and committed."""
    with Session(engine) as session, session.begin():
        return mirror_create(session, params)


def stored(engine: Engine, invite_id: str = "rec-16197") -> Invite:
    with Session(engine) as session:
        found = get_invite(session, invite_id)
    assert found is not None
    return found


def merged(*invites: Invite) -> Invite | None:
    """All of them merged from left to right; None where they are refused."""
    try:
        return reduce(merge, invites)
    except ImmutableFieldError:
        return None


_LIFE = {
    "status": st.sampled_from(LOWEST_TO_HIGHEST),
    "use_count": st.integers(0, 2),
    "redeemed_by_external_user_id": st.sampled_from([None, "u1", "u2"]),
    "redeemed_by_external_chat_id": st.sampled_from([None, "c1"]),
    "redeemed_at": st.sampled_from([None, 1, 2]),
    "updated_at": st.integers(1, 3),
    "expires_at": st.integers(1, 2),
    "note": st.sampled_from([None, "", "n1"]),
    "source_conversation_id": st.sampled_from([None, "s1"]),
    "expected_external_user_id": st.sampled_from([None, "e1"]),
    "friend_name": st.sampled_from([None, "f1"]),
    "guardian_name": st.sampled_from([None, "g1"]),
    "contact_id": st.sampled_from(["co-1", "co-2"]),
}
_ORIGIN: dict[str, st.SearchStrategy[Any]] = {
    "source_channel": st.sampled_from(["telegram", "phone"]),
    "token_hash": st.just(TOKEN_HASH),
    "invite_code_hash": st.sampled_from([None, CODE_HASH]),
    "voice_code_hash": st.sampled_from([None, OTHER_HASH]),
    "voice_code_digits": st.sampled_from([None, 6]),
    "max_uses": st.integers(1, 2),
    "created_at": st.integers(1, 2),
}
_MAY_BE_UNKNOWN = ("invite_code_hash", "voice_code_hash", "voice_code_digits")


@st.composite
def rows_of_one_invite(draw: st.DrawFn, count: int) -> list[Invite]:
    """States of one invite, in no order, of which some may be older than the mirror and so know less of its origin."""
    origin = draw(st.fixed_dictionaries(_ORIGIN))
    return [invite(**draw(st.fixed_dictionaries(_LIFE)), **_known_of(draw, origin)) for _ in range(count)]


@st.composite
def rows_under_one_id(draw: st.DrawFn, count: int) -> list[Invite]:
    """As `rows_of_one_invite`, but now and then one is of another invite that has the same id."""
    origin = draw(st.fixed_dictionaries(_ORIGIN))
    found = []
    for _ in range(count):
        name = draw(st.sampled_from([None, *_ORIGIN]))
        changed = origin if name is None else origin | {name: draw(_ORIGIN[name] | st.just(_another(origin[name])))}
        found.append(invite(**draw(st.fixed_dictionaries(_LIFE)), **_known_of(draw, changed)))
    return found


def _another(value: str | int | None) -> str | int:
    return value + 1 if isinstance(value, int) else "another"


def _known_of(draw: st.DrawFn, origin: dict[str, Any]) -> dict[str, Any]:
    if draw(st.booleans()):
        return origin
    return origin | {"token_hash": None} | {name: None for name in _MAY_BE_UNKNOWN if draw(st.booleans())}
