"""One client's connection: bytes in, whole lines out of them, replies back; everything it can hold is bounded."""

import socket
from collections import deque
from dataclasses import dataclass, field

MAX_LINE = 4 * 2**20
READ_SIZE = 2**18
# Above this much that a client has not fetched, nothing more is read from it.
MAX_UNSENT = 2**20
LINE_BYTES = 64


@dataclass(slots=True, eq=False)
class Connection:
    """State of one client. ``unfinished_since`` and ``unsent_since`` are monotonic seconds, None if nothing waits."""

    socket: socket.socket
    lines: deque[bytes] = field(default_factory=deque)
    waiting: int = 0
    """Bytes in ``lines``."""
    unfinished: bytearray = field(default_factory=bytearray)
    unfinished_since: float | None = None
    unsent: bytearray = field(default_factory=bytearray)
    unsent_since: float | None = None
    at_end: bool = False
    """The client sends no more; what it asked is still answered."""
    broken: bool = False
    watched: int = 0
    """The events that the server's loop waits for."""
    last_read: float = 0.0
    """Monotonic seconds at which something arrived."""

    def read(self, now: float) -> None:
        """Takes what has arrived. A line beyond the limit breaks the connection: where it ends cannot be known."""
        try:
            data = self.socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            self.broken = True
            return
        if not data:
            # A last line without its newline was cut off and must not be taken for whole.
            self.at_end = True
            self.unfinished.clear()
            self.unfinished_since = None
            return
        self.last_read = now
        *whole, rest = data.split(b"\n")
        if whole:
            whole[0] = bytes(self.unfinished) + whole[0]
            self.unfinished.clear()
            self.unfinished_since = None
            self.lines.extend(whole)
            self.waiting += sum(map(len, whole))
        self.unfinished += rest
        if self.unfinished and self.unfinished_since is None:
            self.unfinished_since = now
        if len(self.unfinished) > MAX_LINE or any(len(line) > MAX_LINE for line in whole):
            self.broken = True

    def next_line(self) -> bytes:
        line = self.lines.popleft()
        self.waiting -= len(line)
        return line

    def reply(self, data: bytes) -> None:
        self.unsent += data

    def write(self, now: float) -> None:
        """Sends what the client takes now."""
        if not self.unsent or self.broken:
            return
        try:
            sent = self.socket.send(self.unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.broken = True
            return
        del self.unsent[:sent]
        if not self.unsent:
            self.unsent_since = None
        elif sent or self.unsent_since is None:
            self.unsent_since = now

    @property
    def wants_read(self) -> bool:
        return not self.at_end and not self.lines and len(self.unsent) < MAX_UNSENT

    def is_idle(self, now: float, stalled_seconds: float) -> bool:
        """Whether no answer is owed that its client is there to fetch."""
        is_stalled = self.unsent_since is not None and now - self.unsent_since > stalled_seconds
        return not self.lines and (is_stalled or not self.unsent)

    @property
    def held(self) -> int:
        """The bytes that it makes the server keep; a short line takes more than its own."""
        return len(self.unfinished) + self.waiting + LINE_BYTES * len(self.lines) + len(self.unsent)

    @property
    def is_done(self) -> bool:
        return self.broken or (self.at_end and not self.lines and not self.unsent)
