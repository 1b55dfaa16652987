"""Mirroring: merging invites into the gateway's table, in the caller's transaction or in one of its own.

One that is refused, for whatever reason, fails alone.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from gateway_store.errors import MirrorRefusedError
from gateway_store.identity import StoreFacts
from gateway_store.invites.apply import Invites, Mirrored, MirrorOutcome
from gateway_store.invites.invite import INVITES, Invite
from gateway_store.invites.payload import InvitePayload, parse_payload
from gateway_store.transaction import counted_transaction
from outbox.enqueue import connection_to_write
from outbox.mirroring import batch

__all__ = ["MirrorOutcome", "Mirrored", "mirror_and_commit", "mirror_batch", "mirror_create"]

Payload = str | Mapping[str, Any] | InvitePayload

# Bounds what one transaction holds, and how long it holds it.
MAX_BATCH = 1_000
# For a connection that mirrors: tokens and codes are random, and so are the pages of their indexes that it changes.
CACHE_MIB = 12


def mirror_create(session: Session, invite: Mapping[str, Any] | InvitePayload) -> MirrorOutcome:
    """Merges one invite into the mirror; repeating it is harmless, and an older state never undoes a newer one.

    Raises a `MirrorRefusedError` where it refuses; the session's transaction is then as before the call, save that an
    invite which the table refuses to change as a whole may have been closed.
    """
    (result,) = mirror_batch(connection_to_write(session, INVITES), [invite])
    if isinstance(result, MirrorRefusedError):
        raise result
    return result


def mirror_and_commit(
    engine: Engine,
    payloads: Sequence[Payload],
    *,
    first_created_at_wins: bool = False,
    admit: Callable[[StoreFacts], None] = lambda _: None,
    prove: Callable[[], None] = lambda: None,
) -> list[MirrorOutcome | MirrorRefusedError]:
    """`mirror_batch`, of at most 1,000, in a transaction of its own: durable when it returns.

    ``admit`` is told first whose store it is that is about to be written; ``prove`` is called once the rows are locked
    and again before COMMIT. What either raises rolls everything back.

    Raises what SQLAlchemy raises where the database cannot work, and `outbox.DatabaseMissingError`; a COMMIT that
    raises may still have succeeded.
    """
    return batch.mirror_and_commit(
        lambda: counted_transaction(engine, admit, prove),
        Invites(first_created_at_wins),
        _parsed_batch(payloads),
        prove,
    )


def mirror_batch(
    connection: Connection, payloads: Sequence[Payload], *, first_created_at_wins: bool = False
) -> list[MirrorOutcome | MirrorRefusedError]:
    """`mirror_create` for many in one transaction; each gets its own outcome or refusal, in the order given.

    One that is refused fails alone. The rest is applied when the caller commits, and only then. At most 1,000 at once.
    With ``first_created_at_wins`` another ``created_at`` is passed over instead of refused, as the real gateway does.
    """
    return batch.mirror(connection, Invites(first_created_at_wins), _parsed_batch(payloads))


def _parsed_batch(payloads: Sequence[Payload]) -> list[Invite | MirrorRefusedError]:
    if len(payloads) > MAX_BATCH:
        raise ValueError(f"a batch may hold {MAX_BATCH} invites, got {len(payloads)}")
    return batch.parsed(payloads, parse_payload)
