"""A disk that is full, told before a commit meets it: only of files, and only where the system tells."""

import os
from collections.abc import Iterable

from sqlalchemy import make_url

from outbox.database.files import place_of

# Less than a batch may take in a database's log.
TOO_LITTLE_BYTES = 2**20


def disk_warnings(urls: Iterable[str]) -> list[str]:
    """Of each SQLite file among ``urls`` whose disk has no room for a batch, and the cure."""
    return [warning for url in urls if (warning := _warning(url)) is not None]


def _warning(url: str) -> str | None:
    parsed = make_url(url)
    place = place_of(parsed) if parsed.get_backend_name() == "sqlite" else None
    if place is None:
        return None
    try:
        found = os.statvfs(place.path)
    except OSError:
        return None
    left = found.f_frsize * (found.f_bfree if os.geteuid() == 0 else found.f_bavail)
    # A file system that counts no blocks tells nothing.
    if not found.f_blocks or left >= TOO_LITTLE_BYTES:
        return None
    return f"the disk of {place.path} is full: {left} bytes are left, and nothing is committed without more; make room"
