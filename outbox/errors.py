"""One class for each decision that a caller of this package makes."""

from pathlib import Path

from sqlalchemy.exc import DontWrapMixin


class OutboxError(Exception):
    """The root of every error this package raises by itself."""


class UnsupportedDriverError(OutboxError, ValueError):
    """An engine's database system or driver is none that this package can serve."""


class OutboxFullError(OutboxError):
    """The limit of unsettled messages is reached: the change was not made, and the caller's transaction is intact."""


class SequenceError(OutboxError):
    """No number can be given to a message, until `relay init` has mended the outbox's sequence.

    The change was not made. A function that adds a row with its message leaves the caller's transaction intact on
    PostgreSQL; otherwise, and always on SQLite, all of it is undone, and it can only be rolled back.
    """


class InvalidMessageError(OutboxError, ValueError):
    """No message may be so: nothing was written, and the caller's transaction is intact."""


class SchemaOutdatedError(OutboxError):
    """The database has the tables of an earlier release, which cannot hold what was asked; upgrade it."""


class SchemaRefusedError(OutboxError):
    """A database's tables are of no known shape; the message names what is odd, and nothing was changed."""


class DatabaseMissingError(OutboxError):
    """The database's file is not there to be used: it does not exist and must not be created, or cannot be."""


class FileMissingError(DatabaseMissingError):
    """There is no file at ``path``, and none may be made there."""

    def __init__(self, path: Path, problem: str) -> None:
        self.path = path
        super().__init__(f"no database at {path}{problem}")


class MountedFileError(DatabaseMissingError):
    """Only the database's file is mounted, not its folder: each side would have a log of its own."""


class UntrustedPlaceError(DatabaseMissingError):
    """Another user could change or replace the database or the socket, or what leads there; nothing was opened.

    The message names the file, folder or link; `outbox.database.trust` has the rules.
    """


class OutcomeUnknownError(DatabaseMissingError):
    """The database's file or its log was replaced before the commit returned: it may be kept or lost.

    It is not a failure: repeat the work with the same id, which is harmless if it was kept.
    """


class InheritedConnectionError(OutboxError, DontWrapMixin):
    """The connection was inherited over a fork and belongs to the parent; nothing was sent on it."""
