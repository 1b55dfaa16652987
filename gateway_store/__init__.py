"""The gateway's side: its copy of the invites, merged so that no delivery ever re-opens one.

Nothing here commits a session that it is given.
"""

from gateway_store.contacts.contact import Contact, upsert_contact
from gateway_store.errors import (
    ContactMissingError,
    ImmutableFieldError,
    InvalidPayloadError,
    MirrorRefusedError,
    NewerPayloadError,
    OwnedByAnotherProgramError,
    StoredRowError,
)
from gateway_store.invites.invite import Invite, Status
from gateway_store.invites.mirror import Mirrored, MirrorOutcome, mirror_and_commit, mirror_batch, mirror_create
from gateway_store.invites.payload import SCHEMA_VERSION, InvitePayload
from gateway_store.invites.read import get_invite
from gateway_store.migrate import include_object, upgrade

__all__ = [
    "SCHEMA_VERSION",
    "Contact",
    "ContactMissingError",
    "ImmutableFieldError",
    "InvalidPayloadError",
    "Invite",
    "InvitePayload",
    "MirrorOutcome",
    "MirrorRefusedError",
    "Mirrored",
    "NewerPayloadError",
    "OwnedByAnotherProgramError",
    "Status",
    "StoredRowError",
    "get_invite",
    "include_object",
    "mirror_and_commit",
    "mirror_batch",
    "mirror_create",
    "upgrade",
    "upsert_contact",
]
