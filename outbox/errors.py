"""One class for each decision that a caller of this package makes."""


class OutboxError(Exception):
    """The root of every error this package raises by itself."""


class OutboxFullError(OutboxError):
    """The limit of unsettled messages is reached: the change was not made, and the caller's transaction is intact."""


class SchemaRefusedError(OutboxError):
    """A database's tables are of no known shape; the message names what is odd, and nothing was changed."""


class DatabaseMissingError(OutboxError):
    """The database file does not exist, and the caller asked that it not be created."""
