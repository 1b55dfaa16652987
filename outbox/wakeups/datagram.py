"""The wake-up on SQLite: an empty datagram to every relay listening beside the database. Losing one costs only time.

Each relay binds a socket of its own in the directory ``<database file>-wake``, so any number can listen.
"""

import contextlib
import os
import socket
import stat
from itertools import islice
from pathlib import Path

MAX_LISTENERS = 64
MAX_SOCKET_PATH_BYTES = 107


def wake_directory(database: Path) -> Path:
    return database.with_name(database.name + "-wake")


def wake(database: Path) -> None:
    """Wakes the relays of ``database``. Never blocks, never raises; a full or dead listener is passed over."""
    with (
        contextlib.suppress(OSError),
        os.scandir(wake_directory(database)) as entries,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        sender.setblocking(False)
        for entry in islice(entries, MAX_LISTENERS):
            with contextlib.suppress(OSError):
                sender.sendto(b"", entry.path)


class DatagramSource:
    """A relay's own socket beside the database; `OSError` where it cannot be had."""

    def __init__(self, database: Path, name: str) -> None:
        directory = wake_directory(database)
        path = directory / name
        if len(os.fsencode(path)) > MAX_SOCKET_PATH_BYTES:
            raise OSError(f"the path {path} is longer than {MAX_SOCKET_PATH_BYTES} bytes")
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise OSError(f"{directory} is not a directory that only its owner can use")
        _remove_stale(directory)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            listener.bind(str(path))
            path.chmod(0o600)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        self._socket, self._path = listener, path
        self._owner = os.getpid()
        self.problem: str | None = None
        self.missed = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def drain(self) -> bool:
        found = False
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(1)
                found = True
        return found

    def close(self) -> None:
        self._socket.close()
        # A child that was forked from the relay has a copy of the socket; the name stays the relay's.
        if self._owner == os.getpid():
            self._path.unlink(missing_ok=True)


def _remove_stale(directory: Path) -> None:
    """Removes sockets that nobody listens on any more: their relays were killed."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        for path in directory.iterdir():
            try:
                probe.sendto(b"", str(path))
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)
            except OSError:
                continue
