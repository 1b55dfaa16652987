"""Asking a listener, without waiting, whether a wake-up has arrived."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outbox.datagram import wake_directory


@contextmanager
def bound(path: Path, kind: socket.SocketKind = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    """A socket that a test holds at ``path``; it is not removed from the directory at the end."""
    with socket.socket(socket.AF_UNIX, kind) as found:
        found.bind(str(path))
        found.setblocking(False)
        yield found


@contextmanager
def ear(database: Path, name: str = "ear") -> Iterator[socket.socket]:
    """A relay's socket, held by the test so that it can look without waiting."""
    wake_directory(database).mkdir(mode=0o700, exist_ok=True)
    with bound(wake_directory(database) / name) as found:
        yield found


def woken(found: socket.socket) -> int:
    """How many wake-ups had arrived; they are taken."""
    arrived = 0
    try:
        while True:
            found.recv(1)
            arrived += 1
    except BlockingIOError:
        return arrived
