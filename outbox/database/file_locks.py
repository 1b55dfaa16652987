"""A lock on SQLite's file that no close() can drop.

POSIX drops all locks that a process has on a file as soon as any descriptor of it is closed in that process: by a
backup, a checksum, a copy. Another process then takes itself for the last one and deletes the -wal under the
connections here, with all that they commit from then on. A lock of an open file description stays. SQLite takes it for
one more connection's: while it is held, nobody deletes the -wal.

For the same reason there is one descriptor a file, and it is closed only once no other is open in this process.
"""

import errno
import os
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakSet

from sqlalchemy.engine.interfaces import DBAPIConnection

from outbox.database.files import MUTEX, Identity
from outbox.database.opened import Opened, is_closing
from outbox.errors import DatabaseMissingError

if sys.platform == "linux":
    import fcntl

# Where SQLite's readers lock the file, which every connection to a WAL database does for as long as it lives.
_FIRST, _SIZE = 0x40000002, 510
_SET_LOCK = 37
_FLOCK = "hhqqi4x"
_IS_LINUX = sys.platform == "linux"
_TRIES, _WAIT_SECONDS = 50, 0.02
_DESCRIPTORS = Path("/proc/self/fd")


@dataclass(slots=True)
class _Hold:
    """One file's descriptor, and the connections that it is kept for."""

    descriptor: int
    users: WeakSet[Opened] = field(default_factory=WeakSet)
    spare: list[int] = field(default_factory=list)
    """Further descriptors of the file, opened when its name was given to another in that moment."""
    is_locked: bool = False


_held: dict[Identity, _Hold] = {}
_refused: dict[Path, str] = {}


def problem() -> str | None:
    """Why files cannot be locked so here, all of them or one; None where they can."""
    if not _IS_LINUX:
        return f"{sys.platform} has no locks of open file descriptions"
    return next((f"{path}: {reason}" for path, reason in _refused.items()), None)


def hold(opened: Opened) -> None:
    """Locks the file of a new connection, which has it in WAL mode and so open in SQLite's way already."""
    file = opened.file
    if not _IS_LINUX or file is None or file.identity is None:
        return
    for attempt in range(_TRIES):
        with MUTEX:
            try:
                if _hold(opened, file.path, file.identity):
                    return
            except FileNotFoundError:
                # Moved away a moment ago, which the connection's first use will notice.
                return
            except OSError as error:
                # A file system or a kernel without such locks: as safe as SQLite itself is.
                _refused[file.path] = os.strerror(error.errno or errno.EIO)
                return
        if attempt < _TRIES - 1:
            threading.Event().wait(_WAIT_SECONDS)
    raise DatabaseMissingError(f"another process has {file.path} to itself, past the locks of the connections here")


@contextmanager
def closing(connection: DBAPIConnection) -> Iterator[None]:
    """Around the driver's own closing. The last connection's copies the -wal into the database and deletes it, for
    which it needs the file alone: the lock goes before, and the descriptor after."""
    opened = is_closing(connection)
    identity = None if opened is None or opened.file is None else opened.file.identity
    if opened is None or opened.file is None or identity is None:
        yield
        return
    with MUTEX:
        kept = _held.get(identity)
        if kept is not None:
            kept.users.discard(opened)
            # The -wal that it would copy from may be gone, and the one that it would delete another's.
            if not kept.users and opened.file.replaced() is None:
                _lock(kept, fcntl.F_UNLCK)
    try:
        yield
    finally:
        with MUTEX:
            _let_go()


def forget_inherited() -> None:
    """In a forked child, which shares the descriptors and their locks with its parent: closed, never unlocked.

    Call it before anything here locks the files.
    """
    for kept in _held.values():
        for descriptor in (kept.descriptor, *kept.spare):
            os.close(descriptor)
    _held.clear()


def _hold(opened: Opened, path: Path, identity: Identity) -> bool:
    """False while somebody has the file to himself."""
    _let_go()
    if identity not in _held:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        found = status.st_dev, status.st_ino
        kept = _held.setdefault(found, _Hold(descriptor))
        if kept.descriptor != descriptor:
            kept.spare.append(descriptor)
        if found != identity:
            # Replaced a moment ago, which the connection's first use will notice.
            return True
    kept = _held[identity]
    if not kept.is_locked and not _lock(kept, fcntl.F_RDLCK):
        return False
    kept.users.add(opened)
    return True


def _lock(kept: _Hold, kind: int) -> bool:
    try:
        fcntl.fcntl(kept.descriptor, _SET_LOCK, struct.pack(_FLOCK, kind, os.SEEK_SET, _FIRST, _SIZE, 0))
    except (BlockingIOError, PermissionError):
        return False
    kept.is_locked = kind != fcntl.F_UNLCK
    return True


def _let_go() -> None:
    """Closes the descriptors of files that this process has open nowhere else."""
    # A copy, and nothing taken for granted: the garbage collector may close a connection, here, at any moment.
    for identity, kept in list(_held.items()):
        if kept.users or not _DESCRIPTORS.is_dir():
            continue
        own = {kept.descriptor, *kept.spare}
        if open_descriptors(identity) <= own and _held.pop(identity, None) is kept:
            for descriptor in own:
                os.close(descriptor)


def open_descriptors(identity: Identity) -> set[int]:
    """Those of this process on a file, whoever opened them."""
    found = set()
    for descriptor in (int(entry.name) for entry in _DESCRIPTORS.iterdir()):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        if (status.st_dev, status.st_ino) == identity:
            found.add(descriptor)
    return found
