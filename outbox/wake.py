"""The wake-up on SQLite: an empty datagram to every relay listening beside the database. Losing one costs only time.

Each relay binds a socket of its own in the directory ``<database file>-wake``, so any number can listen.
"""

import contextlib
import os
import select
import socket
import stat
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

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


class WakeListener:
    """What the relay waits on: wake-ups from other processes, and `set` from its own threads and signal handlers.

    ``problem`` says why wake-ups cannot be received (then only polling finds messages), or is None.
    """

    def __init__(self, database: Path | None, name: str) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._socket: socket.socket | None = None
        self._path: Path | None = None
        self.problem: str | None = None
        if database is None:
            self.problem = "the database is in memory"
            return
        try:
            self._bind(wake_directory(database), name)
        except OSError as error:
            self.problem = str(error)

    def set(self) -> None:
        """Ends a `wait`, now or the next. Safe in a signal handler."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write, b"\0")

    def wait(self, timeout: float | None) -> None:
        """Returns at a wake-up, at `set`, or after ``timeout`` seconds. All that had arrived count as one."""
        sources: list[int | socket.socket] = [self._read]
        if self._socket is not None:
            sources.append(self._socket)
        ready, _, _ = select.select(sources, [], [], timeout)
        if self._read in ready:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._read, 4096):
                    pass
        if self._socket is not None and self._socket in ready:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(1)

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)
        if self._socket is not None and self._path is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _bind(self, directory: Path, name: str) -> None:
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
