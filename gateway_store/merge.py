"""The merge: what the gateway keeps of two states of one invite. Pure, commutative, associative, idempotent.

Every part takes the larger of two values in a fixed order, so the result does not depend on who arrives first or how
often. A redeemed, revoked or expired invite stays closed because `active` is the lowest status of all.
"""

from typing import Any

from gateway_store.errors import ImmutableFieldError, StoredRowError
from gateway_store.invite import RANK, Invite

IMMUTABLE = (
    "source_channel",
    "token_hash",
    "invite_code_hash",
    "voice_code_hash",
    "voice_code_digits",
    "max_uses",
    "created_at",
)
REDEMPTION = ("redeemed_by_external_user_id", "redeemed_by_external_chat_id", "redeemed_at")
REST = (
    "source_conversation_id",
    "note",
    "expires_at",
    "expected_external_user_id",
    "friend_name",
    "guardian_name",
    "contact_id",
)

_Orderable = tuple[tuple[bool, str | int], ...]


def merge(stored: Invite, incoming: Invite) -> Invite:
    """The state that both agree with. Raises `ImmutableFieldError` where they are different invites under one id."""
    if stored.id != incoming.id:
        raise ValueError(f"cannot merge invite {stored.id} with invite {incoming.id}")
    # On a tie the larger contents win: any rule will do, as long as it does not depend on the order of arrival.
    try:
        redemption = max(stored, incoming, key=lambda one: (one.use_count, _orderable(one, REDEMPTION)))
        rest = max(stored, incoming, key=lambda one: (one.updated_at, _orderable(one, REST)))
    except TypeError:
        # SQLite keeps text in an integer column where somebody wrote it.
        raise StoredRowError(
            f"invite {stored.id} has a value of the wrong type at the gateway; correct that row by hand"
        ) from None
    return rest._replace(
        **_immutable(stored, incoming),
        status=max(stored, incoming, key=_rank).status,
        use_count=redemption.use_count,
        redeemed_by_external_user_id=redemption.redeemed_by_external_user_id,
        redeemed_by_external_chat_id=redemption.redeemed_by_external_chat_id,
        redeemed_at=redemption.redeemed_at,
    )


def closing(stored: Invite, merged: Invite) -> Invite:
    """``stored``, as closed as ``merged`` is, and no more of it: merging once more still leads to ``merged``.

    Who redeemed it is left out where it would change, since any value wins against none; only when is a number.
    """
    if merged.use_count > stored.use_count:
        unknown: dict[str, Any] = dict.fromkeys(REDEMPTION) | {"redeemed_at": merged.redeemed_at}
        stored = stored._replace(use_count=merged.use_count, **unknown)
    return stored._replace(status=merged.status)


def at_least(incoming: Invite, status: object, use_count: object) -> Invite:
    """``incoming``, no more open than it was when its row was deleted, as ``ingress_invites_closed`` has it."""
    if not isinstance(status, str) or status not in RANK or not isinstance(use_count, int):
        # Nobody can say how open it was.
        raise StoredRowError(
            f"invite {incoming.id} was deleted at the gateway, and its row in ingress_invites_closed has the status "
            f"{status!r} and the use count {use_count!r}; correct that row by hand"
        )
    kept = max(status, incoming.status, key=RANK.__getitem__)
    return incoming._replace(status=kept, use_count=max(use_count, incoming.use_count))


def _rank(invite: Invite) -> int:
    try:
        return RANK[invite.status]
    except KeyError:
        raise StoredRowError(
            f"invite {invite.id} has the unknown status {invite.status!r} at the gateway; correct that row by hand"
        ) from None


def _immutable(stored: Invite, incoming: Invite) -> dict[str, Any]:
    result: dict[str, Any] = {}
    differing = []
    for name in IMMUTABLE:
        ours, theirs = getattr(stored, name), getattr(incoming, name)
        if ours == theirs or (theirs is None and _is_partial(incoming)):
            result[name] = ours
        elif ours is None and _is_partial(stored):
            result[name] = theirs
        else:
            differing.append(name)
    if differing:
        raise ImmutableFieldError(stored.id, differing)
    return result


def _is_partial(invite: Invite) -> bool:
    """A row older than the mirror: its NULLs mean "not known" and may be filled; in any other row they mean "none"."""
    return invite.token_hash is None


def _orderable(invite: Invite, names: tuple[str, ...]) -> _Orderable:
    return tuple(_nulls_first(getattr(invite, name)) for name in names)


def _nulls_first(value: str | int | None) -> tuple[bool, str | int]:
    return (False, 0) if value is None else (True, value)
