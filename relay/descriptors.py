"""What standard output and standard error have in common: a stream on a descriptor that other processes share."""

import io
import os
import select
from typing import TextIO

LOOK_AGAIN_SECONDS = 1.0


class DescriptorStream(io.RawIOBase):
    """Only for writing; its descriptor, and the flags of that, stay as they are."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return os.isatty(self._fd)


def write_some(fd: int, data: bytes | memoryview) -> int:
    """How many bytes of ``data`` were written; 0 where the descriptor takes none for now, after a wait."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        # Another process has made the descriptor that it shares non-blocking.
        select.select([], [fd], [], LOOK_AGAIN_SECONDS)
        return 0


def open_nowhere(descriptor: int) -> TextIO:
    """What a stream writes to whose descriptor was closed when the process started."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.fstat(descriptor)
    except OSError:
        # C libraries write there too, and no socket or database may be what they write to.
        os.dup2(nowhere, descriptor, inheritable=True)
    return open(nowhere, "w", encoding="utf-8", errors="backslashreplace")  # noqa: PTH123 - for good
