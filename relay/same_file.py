"""One database file given for both stores: nothing would be mirrored, and `verify` would compare a file with itself."""

from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from outbox.database.files import place_of
from relay.errors import UsageError
from relay.settings import Settings


def refuse_same_file(settings: Settings) -> None:
    """Raises `UsageError` for one SQLite file under two names: relative, through a link, or a hard link.

    A URL that cannot be understood passes: who opens it says what is wrong with it.
    """
    ours, theirs = _file(settings.assistant_db), _file(settings.gateway)
    if ours is None or theirs is None:
        return
    if ours == theirs or (ours.exists() and theirs.exists() and ours.samefile(theirs)):
        raise UsageError(
            f"--assistant-db and --gateway name the same file, {ours}; each store is a database of its own"
        )


def _file(url: str) -> Path | None:
    try:
        parsed = make_url(url)
        place = place_of(parsed) if parsed.get_backend_name() == "sqlite" else None
    except (ArgumentError, ValueError):
        return None
    return None if place is None else place.path
