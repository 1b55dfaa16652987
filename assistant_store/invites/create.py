"""Creating an invite: the row and its message, in one transaction."""

from dataclasses import dataclass, field
from datetime import timedelta

from sqlalchemy.orm import Session

from assistant_store.errors import InvalidInviteError
from assistant_store.invites.enqueue import enqueue_invites
from assistant_store.invites.invite import COLUMNS, INVITES, TABLE, Invite, Status, values_of
from assistant_store.invites.request import LARGEST_INTEGER, checked_request
from assistant_store.invites.secret import CODE_DIGITS, hash_secret, new_code, new_id, new_token
from outbox.clock import now_ms
from outbox.database.rows import Insert
from outbox.enqueue import with_its_message

_INSERT = Insert(TABLE, COLUMNS)


@dataclass(frozen=True, slots=True)
class CreatedInvite:
    """A new invite and the secrets that are shown this once; only their hashes are stored."""

    invite: Invite
    raw_token: str | None = field(repr=False)
    """None for a voice invite: it is redeemed by its code alone."""
    code: str = field(repr=False)


def create_invite(
    session: Session,
    *,
    source_channel: str,
    contact_id: str,
    note: str | None = None,
    max_uses: int = 1,
    expires_in: timedelta = timedelta(days=7),
    source_conversation_id: str | None = None,
    expected_external_user_id: str | None = None,
    friend_name: str | None = None,
    guardian_name: str | None = None,
) -> CreatedInvite:
    """Adds an active invite and its message in the session's transaction; both commit with it or not at all.

    Channel ``phone`` makes a voice invite. Raises `InvalidInviteError` before anything is written, and
    `outbox.OutboxFullError` where a limit is set. Does not ask whether the gateway is up, and does not wait for it.
    """
    request = checked_request(
        source_channel=source_channel,
        contact_id=contact_id,
        note=note,
        max_uses=max_uses,
        expires_in=expires_in,
        source_conversation_id=source_conversation_id,
        expected_external_user_id=expected_external_user_id,
        friend_name=friend_name,
        guardian_name=guardian_name,
    )
    now = now_ms()
    expires_at = now + expires_in // timedelta(milliseconds=1)
    if expires_at > LARGEST_INTEGER:
        raise InvalidInviteError("cannot create the invite: expires_in reaches further than an instant can")
    token, code = new_token(), new_code()
    invite = Invite(
        id=new_id(now),
        source_channel=request.source_channel,
        token_hash=hash_secret(token),
        source_conversation_id=request.source_conversation_id,
        note=request.note,
        max_uses=request.max_uses,
        use_count=0,
        expires_at=expires_at,
        status=Status.ACTIVE,
        redeemed_by_external_user_id=None,
        redeemed_by_external_chat_id=None,
        redeemed_at=None,
        expected_external_user_id=request.expected_external_user_id,
        voice_code_hash=hash_secret(code) if request.is_voice else None,
        voice_code_digits=CODE_DIGITS if request.is_voice else None,
        invite_code_hash=None if request.is_voice else hash_secret(code),
        friend_name=request.friend_name,
        guardian_name=request.guardian_name,
        contact_id=request.contact_id,
        created_at=now,
        updated_at=now,
    )
    with with_its_message(session, INVITES) as connection:
        _INSERT.run(connection, [values_of(invite)])
        enqueue_invites(session, connection, [invite])
    return CreatedInvite(invite=invite, raw_token=None if request.is_voice else token, code=code)
