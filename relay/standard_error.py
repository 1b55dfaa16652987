"""Standard error that never keeps its writer waiting, whatever reads it: a full pipe, a stopped terminal, a full disk.

One thread writes, in order. What it cannot write in time is dropped and counted; the count is written once it can.
The descriptor's flags stay as they are: other processes share them.
"""

import atexit
import io
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from relay.descriptors import DescriptorStream, open_nowhere, write_some

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

MOST_BYTES = 2**20
# What `flush` and the end of the process wait for, at most.
PATIENCE_SECONDS = 0.5
# What a line waits for where there is no room: a reader that is quick, but not that quick, misses nothing.
ROOM_SECONDS = 0.01


class DroppingStream(DescriptorStream):
    """Takes what is written and returns at once, or nearly so."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd)
        self.dropped_line: Callable[[int], str] = "{} lines of the log could not be written in time\n".format
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._unwritten_bytes = 0
        self._dropped = 0
        # The last wait was in vain, and nothing has been written since: no other is worth it.
        self._is_crammed = False
        self._is_stuck = False
        self._has_ended = False
        self._writer: threading.Thread | None = None

    def write(self, data: "ReadableBuffer") -> int:
        line = bytes(data)
        with self._changed:
            if self._has_room(len(line)) and not self._has_ended:
                self._append(line)
            else:
                self._dropped += line.count(b"\n")
        return len(line)

    def flush(self) -> None:
        """Waits until all is written, but not for a reader that has kept the last `flush` waiting in vain."""
        with self._changed:
            if not self._is_stuck and not self._has_ended:
                self._is_stuck = not self._changed.wait_for(self._is_all_written, PATIENCE_SECONDS)

    def end(self) -> bool:
        """Takes nothing more; whether all was written in time."""
        self.flush()
        with self._changed:
            self._has_ended = True
            return self._is_all_written()

    def _has_room(self, size: int) -> bool:
        def is_there() -> bool:
            return self._unwritten_bytes + size <= MOST_BYTES

        if not self._is_crammed:
            self._is_crammed = not self._changed.wait_for(is_there, ROOM_SECONDS)
        return is_there()

    def _is_all_written(self) -> bool:
        return self._unwritten_bytes == 0

    def _append(self, line: bytes) -> None:
        self._waiting.append(line)
        self._unwritten_bytes += len(line)
        if self._writer is None:
            # Not before it is needed, so that a process can fork until then. A daemon: it may hang in a write.
            self._writer = threading.Thread(target=self._write_on, daemon=True, name="standard error")
            self._writer.start()
        self._changed.notify_all()

    def _write_on(self) -> None:
        torn = False
        while True:
            with self._changed:
                self._changed.wait_for(self._waiting.__len__)
                chunk = self._take()
            # Half a line may have been written before the disk was full; the next one must not be its other half.
            data = b"\n" + chunk if torn else chunk
            rest = _unwritten(self._fd, data)
            if sent := data[: len(data) - len(rest)]:
                torn = not sent.endswith(b"\n")
            with self._changed:
                self._unwritten_bytes -= len(chunk)
                self._is_crammed = self._is_stuck = False
                if rest:
                    self._dropped += max(1, rest.removeprefix(b"\n").count(b"\n"))
                elif self._dropped:
                    self._append(self.dropped_line(self._dropped).encode(errors="backslashreplace"))
                    self._dropped = 0
                self._changed.notify_all()

    def _take(self) -> bytes:
        """The next lines, as many as a pipe takes without mixing them with those of another process."""
        lines = [self._waiting.popleft()]
        size = len(lines[0])
        while self._waiting and size + len(self._waiting[0]) <= select.PIPE_BUF:
            size += len(self._waiting[0])
            lines.append(self._waiting.popleft())
        return b"".join(lines)


def _unwritten(fd: int, data: bytes) -> bytes:
    """Writes ``data``, however long that takes; what could not be written because of an error."""
    while data:
        try:
            data = data[write_some(fd, data) :]
        except OSError:
            return data
    return b""


def never_wait_for_standard_error() -> None:
    """Puts a `DroppingStream` under `sys.stderr`, for good. One that somebody else has put there stays."""
    present = sys.__stderr__
    if sys.stderr is not present:
        return
    if present is None:
        sys.stderr = open_nowhere(2)
        return
    # A descriptor of its own: a file opened later could get the number 2, and the log be written into it.
    stream = DroppingStream(os.dup(present.fileno()))
    sys.stderr = io.TextIOWrapper(stream, present.encoding, "backslashreplace", line_buffering=True)
    atexit.register(_end, stream)


def _end(stream: DroppingStream) -> None:
    if stream.end() and sys.__stderr__ is not None:
        # For the last words of the interpreter itself.
        sys.stderr = sys.__stderr__
