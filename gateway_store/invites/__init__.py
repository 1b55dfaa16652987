"""The gateway's copy of the invites: how one arrives, is merged, written and read."""
