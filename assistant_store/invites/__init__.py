"""The daemon's invites: created, changed and read, and a message with every change."""
