"""Standard output whose trouble is an error in words: a reader that went away, a full disk, a closed descriptor.

After the first error it takes what is written and drops it, so that the end of the process has nothing to add.
"""

import io
import sys
from typing import TYPE_CHECKING

from outbox.redact import printable
from relay.descriptors import DescriptorStream, open_nowhere, write_some
from relay.errors import OutputFailedError, ReaderGoneError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

DESCRIPTOR = 1


class OutputStream(DescriptorStream):
    """Writes all that it is given, or raises `ReaderGoneError` or `OutputFailedError` once and goes silent."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self._has_ended = False

    def end(self) -> None:
        """Drops what is written from now on."""
        self._has_ended = True

    def write(self, data: "ReadableBuffer") -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        while rest and not self._has_ended:
            try:
                rest = rest[write_some(self._fd, rest) :]
            except (BrokenPipeError, ConnectionResetError):
                # A socket can say either.
                self.end()
                raise ReaderGoneError("whoever read the output has gone") from None
            except OSError as error:
                self.end()
                reason = printable(error.strerror or str(error))
                raise OutputFailedError(f"standard output cannot be written: {reason}") from None
        return size


def own_standard_output() -> None:
    """Puts an `OutputStream` under `sys.stdout`, for good. One that somebody else has put there stays.

    Closed from the start it is as ``/dev/null``: whoever closes it wants the exit code only.
    """
    present = sys.__stdout__
    if sys.stdout is not present:
        return
    if present is None:
        sys.stdout = open_nowhere(DESCRIPTOR)
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(OutputStream(present.fileno())),
        present.encoding,
        # A text that the terminal has no letters for is still an answer.
        "backslashreplace",
        line_buffering=present.line_buffering,
    )


def drop_the_rest() -> None:
    """Nothing that is still buffered is written: the command was stopped, and its reader may never read on."""
    stream = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(stream, OutputStream):
        stream.end()
