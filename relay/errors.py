"""One class for each way in which a command ends other than well; the command's exit code is theirs."""


class RelayError(Exception):
    """The root; the message is one line that says what to do."""

    exit_code = 1


class UnrepairedError(RelayError):
    """Drift was found, or something could not be repaired."""


class UsageError(RelayError):
    """What was asked for makes no sense."""

    exit_code = 2


class InterruptedRelayError(RelayError):
    """Stopped on request before the end; running it again goes on."""

    exit_code = 3


class UnreachableError(RelayError):
    """A side cannot be reached or read."""

    exit_code = 4


class OtherGatewayError(UnreachableError):
    """The gateway is not the one that the outbox drains into; the message names both, and the cure."""


class OutputFailedError(UnreachableError):
    """What the command found cannot be written where it was to go: a full disk, for one."""


class ReaderGoneError(RelayError):
    """Whoever read the output has gone: it has all that it wanted, and nothing is said about it."""

    exit_code = 0
