"""Who comes in: connections that have said nothing yet, kept as the kernel's numbers until they do.

A storm of connects must cost less to turn away than to make, or it fills the kernel's queue, where a client that does
not wait is refused. So nothing is made of a connection before it speaks, and one that hung up is closed unread.
"""

import fcntl
import os
import select
import socket
import termios
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator

# As many are taken before those among them are looked for who have something to say.
CHUNK = 128
# Then those who are in have their turn again.
LONGEST_SECONDS = 0.02
SILENT = "asked nothing, while others came"

_SPEAKS = select.EPOLLIN | select.EPOLLRDHUP
_HUNG_UP = select.EPOLLRDHUP | select.EPOLLHUP


class Door:
    """At most ``number`` wait here; the oldest makes room for the newest."""

    def __init__(self, number: int, refused: Counter[str]) -> None:
        self._number = number
        self._refused = refused
        self._silent: dict[int, float] = {}
        """Descriptor and monotonic seconds, in the order in which they came."""
        self._speaking: deque[int] = deque()
        self._epoll = select.epoll()

    def fileno(self) -> int:
        """Readable once one of those who wait has something to say."""
        return self._epoll.fileno()

    @property
    def has_callers(self) -> bool:
        """Whether somebody was not taken from `callers` the last time."""
        return bool(self._speaking)

    def callers(self, listener: socket.socket) -> Iterator[socket.socket]:
        """Those who have something to say, of those who waited here and those who come now."""
        end = time.monotonic() + LONGEST_SECONDS
        for descriptor, events in self._epoll.poll(0, self._number):
            self._epoll.unregister(descriptor)
            del self._silent[descriptor]
            self._hear(descriptor, events)
        are_more = True
        while self._speaking or are_more:
            while self._speaking:
                descriptor = self._speaking.popleft()
                client = socket.socket(listener.family, listener.type, listener.proto, fileno=descriptor)
                client.setblocking(False)
                yield client
            newest, are_more = self._accepted(listener, CHUNK if time.monotonic() < end else 0)
            self._sort(newest)

    def close_one(self) -> bool:
        """The oldest; False where there is none."""
        if not self._silent:
            return False
        descriptor = next(iter(self._silent))
        del self._silent[descriptor]
        self._refused[SILENT] += 1
        # Which takes it out of what is polled, too.
        os.close(descriptor)
        return True

    def close_older_than(self, since: float) -> None:
        while self._silent and next(iter(self._silent.values())) < since:
            self.close_one()

    def close(self) -> None:
        for descriptor in (*self._silent, *self._speaking):
            os.close(descriptor)
        self._silent.clear()
        self._speaking.clear()
        self._epoll.close()

    def _accepted(self, listener: socket.socket, limit: int) -> tuple[list[int], bool]:
        """At most ``limit`` new ones, and whether there may be more."""
        found: list[int] = []
        for _ in range(limit):
            try:
                # `accept` would make a socket of it, which takes longer than all that is done with most of them.
                descriptor, _ = listener._accept()  # type: ignore[attr-defined]
            except BlockingIOError:
                return found, False
            except OSError as error:
                # No file descriptor is left, for instance; one that is given back lets the next one in.
                self._refused[error.strerror or "cannot be accepted"] += 1
                self.close_one()
                return found, False
            found.append(descriptor)
        return found, limit > 0

    def _sort(self, newest: Iterable[int]) -> None:
        poll = select.poll()
        for descriptor in newest:
            poll.register(descriptor, _SPEAKS)
        speaking = dict(poll.poll(0))
        now = time.monotonic()
        for descriptor in newest:
            if descriptor in speaking:
                self._hear(descriptor, speaking[descriptor])
                continue
            if len(self._silent) >= self._number:
                self.close_one()
            self._epoll.register(descriptor, _SPEAKS)
            self._silent[descriptor] = now

    def _hear(self, descriptor: int, events: int) -> None:
        if events & _HUNG_UP and not _has_unread(descriptor):
            os.close(descriptor)
        else:
            self._speaking.append(descriptor)


def _has_unread(descriptor: int) -> bool:
    return fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0") != b"\0\0\0\0"
