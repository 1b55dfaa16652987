"""The gateway's contacts."""
