"""The errors of the daemon's library."""


class InvalidInviteError(ValueError):
    """What was asked for breaks a rule for invites; nothing was written. The message names the field and the rule."""


class StoredInviteError(ValueError):
    """A row of the invites' table holds what no invite can, so no message can be made of it; nothing was written."""
