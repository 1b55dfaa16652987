"""Closing invites that only the gateway has."""

from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from gateway_store.errors import MirrorRefusedError
from gateway_store.identity import StoreFacts, store_facts
from gateway_store.invites.apply import Invites
from gateway_store.invites.invite import RANK, Invite, Status
from gateway_store.invites.read import PAGES
from outbox.database.engine import writing
from outbox.mirroring.refused import mirror_in_halves


def revoke_and_commit(
    engine: Engine, ids: Sequence[str], *, admit: Callable[[StoreFacts], None] = lambda _: None
) -> dict[str, str]:
    """Revokes the invites through the merge, in a transaction of its own; one that is closed already stays as it is.

    Returns by id why one could not be revoked. ``admit`` is told first whose store it is. Nothing but the status
    changes, ``updated_at`` neither: whatever else the owner of the row may still say of it counts.
    """
    with writing(engine) as connection:
        admit(store_facts(connection))
        # Not locked here: the merge locks, contacts first, and takes the later status.
        stored = map(Invite._make, PAGES.by_id(connection, ids).values())
        revoked = [one._replace(status=Status.REVOKED.value) for one in stored if not _is_closed(one)]
        results = mirror_in_halves(connection, Invites(first_created_at_wins=False), revoked)
    return {
        invite.id: str(result)
        for invite, result in zip(revoked, results, strict=True)
        if isinstance(result, MirrorRefusedError)
    }


def _is_closed(invite: Invite) -> bool:
    return RANK.get(invite.status, 0) > RANK[Status.ACTIVE]
