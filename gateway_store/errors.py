"""Why the gateway's store refuses an invite. No message holds a value of a hash."""

from collections.abc import Sequence
from typing import Any

from outbox.errors import SchemaRefusedError
from outbox.mirroring.errors import MirrorRefusedError, StoredRowError

__all__ = [
    "ContactMissingError",
    "ImmutableFieldError",
    "InvalidPayloadError",
    "MirrorRefusedError",
    "NewerPayloadError",
    "OtherAssistantError",
    "OwnedByAnotherProgramError",
    "StoredRowError",
]


class ContactMissingError(MirrorRefusedError):
    """The invite's contact is not at the gateway yet; the only refusal that time alone can heal."""

    def __init__(self, invite_id: str, contact_id: str) -> None:
        super().__init__(
            f"FOREIGN KEY constraint failed: contact {contact_id!r} of invite {invite_id} is not at the gateway; "
            "the invite is mirrored once the contact is there"
        )


class InvalidPayloadError(MirrorRefusedError):
    """The payload breaks the rules for an invite. ``issues`` are objects, each with ``path``, ``code``, ``message``."""

    def __init__(self, issues: Sequence[dict[str, Any]]) -> None:
        self.issues = list(issues)
        words = "; ".join(f"{'.'.join(map(str, issue['path'])) or 'payload'}: {issue['message']}" for issue in issues)
        super().__init__(f"invalid invite: {words}")


class NewerPayloadError(MirrorRefusedError):
    """The payload is of a version later than this gateway reads; nothing of it was judged or written.

    The gateway is what has to change, not the message: it waits for the upgrade, and is never dead. Once the gateway
    was upgraded, the same invite may be taken.
    """

    def __init__(self, schema_version: int, reads: int) -> None:
        self.schema_version = schema_version
        self.reads = reads
        super().__init__(
            f"newer than this gateway: schema version {schema_version}, this gateway reads {reads}; upgrade the gateway"
        )


class ImmutableFieldError(MirrorRefusedError):
    """The stored invite of that id has other contents in fields that never change."""

    def __init__(self, invite_id: str, names: Sequence[str]) -> None:
        self.names = list(names)
        super().__init__(
            f"invite {invite_id} is mirrored with another {', '.join(names)}; "
            f"inspect both rows with `relay verify --id {invite_id}`"
        )


class OtherAssistantError(Exception):
    """The store mirrors the invites of another assistant; nothing was changed."""

    def __init__(self, identity: str, assistant: str) -> None:
        super().__init__(f"gateway {identity} mirrors the invites of another assistant, {assistant}")


class OwnedByAnotherProgramError(SchemaRefusedError):
    """The database is another program's, which would not start again on one that was upgraded; nothing was changed.

    Only who knows that this program is never started on it again may say ``take_over=True``.
    """
