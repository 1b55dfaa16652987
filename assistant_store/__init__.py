"""The daemon's side: invites in its own database, and a message in the outbox with every change of one.

Imported by the assistant. Nothing here commits a session that it is given, and nothing here calls the gateway.
"""

from assistant_store.errors import InvalidInviteError, StoredInviteError
from assistant_store.invites.change import expire_invite, record_invite_use, revoke_invite
from assistant_store.invites.create import CreatedInvite, create_invite
from assistant_store.invites.invite import Invite, Status
from assistant_store.invites.read import find_invite_by_token, get_invite, list_invites
from assistant_store.migrate import include_object, upgrade

__all__ = [
    "CreatedInvite",
    "InvalidInviteError",
    "Invite",
    "Status",
    "StoredInviteError",
    "create_invite",
    "expire_invite",
    "find_invite_by_token",
    "get_invite",
    "include_object",
    "list_invites",
    "record_invite_use",
    "revoke_invite",
    "upgrade",
]
