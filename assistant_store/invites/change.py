"""Changing an invite: one conditional statement on its status, and a message if and only if it changed something."""

from typing import Any

from sqlalchemy import ColumnElement, case, update
from sqlalchemy.orm import Session

from assistant_store.invites.enqueue import enqueue_invites
from assistant_store.invites.invite import INVITES, Invite, Status, checked_row
from assistant_store.invites.request import refuse_unstorable
from outbox.clock import now_ms
from outbox.enqueue import with_its_message

_C = INVITES.c


def record_invite_use(
    session: Session, invite_id: str, *, external_user_id: str | None = None, external_chat_id: str | None = None
) -> Invite | None:
    """Counts one use; the last one allowed makes the invite redeemed. None where it is not active or its time is over.

    Of several processes that use the last place at once, one gets the invite and the others None. Raises
    `InvalidInviteError` for an id that no mirror could store.
    """
    refuse_unstorable("record the use", external_user_id=external_user_id, external_chat_id=external_chat_id)
    now = now_ms()
    used_up = _C.use_count + 1 >= _C.max_uses
    return _change_active(
        session,
        invite_id,
        now,
        {
            _C.use_count: _C.use_count + 1,
            _C.status: case((used_up, Status.REDEEMED.value), else_=_C.status),
            _C.redeemed_by_external_user_id: external_user_id,
            _C.redeemed_by_external_chat_id: external_chat_id,
            _C.redeemed_at: now,
        },
        _C.expires_at > now,
        _C.use_count < _C.max_uses,
    )


def revoke_invite(session: Session, invite_id: str) -> Invite | None:
    """Revokes an active invite; None where there is none."""
    return _change_active(session, invite_id, now_ms(), {_C.status: Status.REVOKED.value})


def expire_invite(session: Session, invite_id: str) -> Invite | None:
    """Marks an active invite as expired, whatever its ``expires_at``; None where there is none."""
    return _change_active(session, invite_id, now_ms(), {_C.status: Status.EXPIRED.value})


def _change_active(
    session: Session, invite_id: str, now: int, values: dict[Any, Any], *conditions: ColumnElement[bool]
) -> Invite | None:
    # Grows strictly even when the clock steps back: it is the version by which an older message gives way.
    newer = case((_C.updated_at >= now, _C.updated_at + 1), else_=now)
    with with_its_message(session, INVITES) as connection:
        row = connection.execute(
            update(INVITES)
            .where(_C.id == invite_id, _C.status == Status.ACTIVE.value, *conditions)
            .values({**values, _C.updated_at: newer})
            .returning(*_C)
        ).one_or_none()
        if row is None:
            return None
        invite = checked_row(row)
        enqueue_invites(session, connection, [invite])
    return invite
