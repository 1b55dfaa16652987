"""What mirroring would make of a row, without doing it: so that a cure is named only where it is one."""

from collections.abc import Sequence
from typing import Any

from gateway_store.errors import MirrorRefusedError
from gateway_store.invites.invite import Invite
from gateway_store.invites.merge import merge
from gateway_store.invites.payload import parse_payload


def foresee(payload: str, stored: Sequence[Any] | None) -> tuple[Any, ...] | None:
    """The row once ``payload`` is merged into ``stored``, in the order of the columns; None where it is refused.

    Whether the gateway knows the contact, and what it remembers of a deleted row, is not asked here.
    """
    try:
        incoming = parse_payload(payload)
        return tuple(incoming if stored is None else merge(Invite._make(stored), incoming))
    except MirrorRefusedError:
        return None
