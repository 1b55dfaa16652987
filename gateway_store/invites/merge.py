"""The merge: what the gateway keeps of two states of one invite. Pure, commutative, associative, idempotent.

The result does not depend on who arrives first or how often. A closed invite stays closed.
"""

from typing import Any

from gateway_store.errors import ImmutableFieldError, StoredRowError
from gateway_store.invites.declaration import INVITE
from gateway_store.invites.invite import COLUMNS, RANK, Invite
from outbox.mirroring.errors import FieldsDifferError, UnknownRankError, UnorderedError
from outbox.mirroring.merge import Merge

REDEMPTION = ("redeemed_by_external_user_id", "redeemed_by_external_chat_id", "redeemed_at")

_merge = Merge(INVITE, COLUMNS, at="gateway")


def merge(stored: Invite, incoming: Invite) -> Invite:
    """The state that both agree with. Raises `ImmutableFieldError` where they are different invites under one id."""
    try:
        return Invite._make(_merge(stored, incoming))
    except FieldsDifferError as error:
        raise ImmutableFieldError(stored.id, error.names) from None
    except UnorderedError:
        # SQLite keeps text in an integer column where somebody wrote it.
        raise StoredRowError(
            f"invite {stored.id} has a value of the wrong type at the gateway; correct that row by hand"
        ) from None
    except UnknownRankError as error:
        raise StoredRowError(
            f"invite {stored.id} has the unknown {error.field} {error.value!r} at the gateway; correct that row by hand"
        ) from None


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
