"""The errors of the daemon's library."""


class InvalidInviteError(ValueError):
    """What was asked for breaks a rule for invites; nothing was written. The message names the field and the rule."""
