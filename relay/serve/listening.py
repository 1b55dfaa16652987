"""The socket's file: bound where only its owner can reach it, never stolen, never left to somebody else."""

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from outbox.database.trust import trusted_at
from outbox.database.way import way_to
from outbox.errors import UntrustedPlaceError

MAX_PATH_BYTES = 107
# As long as the kernel lets it be: beyond it, a client that waits at all waits in no order.
BACKLOG = 4096


class ListenError(Exception):
    """The socket cannot be bound; the message says why and what to do."""


class SocketFile:
    """A listening Unix socket and the file it is reached by."""

    def __init__(self, path: Path) -> None:
        """Binds, taking over a file that nobody listens on; `ListenError` where it must not or cannot."""
        if not hasattr(socket, "SO_PEERCRED"):
            raise ListenError("serving the socket needs Linux, whose kernel names the user at the other end")
        if len(os.fsencode(path)) > MAX_PATH_BYTES:
            raise ListenError(f"{path} is longer than the {MAX_PATH_BYTES} bytes that a socket's path may have")
        self.path = path
        self.socket = self._bind()

    def rebind_if_gone(self) -> bool:
        """Binds again if the file vanished; connections made before live on. What somebody put there is left alone."""
        if os.path.lexists(self.path):
            return False
        old, self.socket = self.socket, self._bind()
        old.close()
        return True

    def close(self) -> None:
        """Stops listening and removes the file, unless it is another's by now."""
        try:
            found = self.path.lstat()
            # While the socket is open nobody takes the file over, and no other file can be given its inode.
            if (found.st_dev, found.st_ino) == self._identity:
                self.path.unlink(missing_ok=True)
        except OSError:
            return
        finally:
            self.socket.close()

    def _bind(self) -> socket.socket:
        try:
            return self._bind_unchecked()
        except OSError as error:
            raise ListenError(f"cannot listen on {self.path}: {error}") from error

    def _bind_unchecked(self) -> socket.socket:
        _refuse_untrusted(self.path)
        _make_folders(self.path.parent)
        _refuse_untrusted(self.path)
        with _locked(self.path):
            _remove_stale(self.path)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                before = os.umask(0o177)
                try:
                    listener.bind(str(self.path))
                finally:
                    os.umask(before)
                listener.listen(BACKLOG)
                listener.setblocking(False)
            except OSError:
                listener.close()
                raise
            found = self.path.lstat()
        self._identity = (found.st_dev, found.st_ino)
        return listener


def peer_uid(connection: socket.socket) -> int:
    """The user at the other end, as the kernel knows it."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(uid)


def _make_folders(folder: Path) -> None:
    try:
        # One by one: made all at once, only the last would be closed to others.
        for one in (*reversed(folder.parents), folder):
            one.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ListenError(f"cannot make the folder {folder}: {error.strerror}") from error


def _refuse_untrusted(path: Path) -> None:
    """Root, too, serves only where nobody else could replace the socket: it is not pointed at what is there already."""
    try:
        trusted_at(way_to(path), as_root_the_owner=False)
    except UntrustedPlaceError as error:
        raise ListenError(str(error)) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Of servers that start at once one goes on and the others are refused, so that none steals. Never waits.

    The lock is on a file beside the socket that no other user can open: whoever can open a file, or a folder, can lock
    it for ever. The file stays, since a lock on a removed one keeps nobody out.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its other end.
        descriptor = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise ListenError(f"cannot open the lock file {lock}: {error.strerror}") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise ListenError(f"{lock} is no lock file that is yours alone; remove it")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ListenError(f"another server is about to listen on {path}") from None
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise ListenError(f"{path} exists and is no socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise ListenError(f"{path} is a socket that can be neither used nor taken over: {error}") from error
    raise ListenError(f"a server is listening on {path} already")
