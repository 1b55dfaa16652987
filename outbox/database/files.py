"""A SQLite database's file: resolved once, when its engine is made; created private; and the same file ever after."""

import errno
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from sqlalchemy.engine import URL
from sqlalchemy.util import asbool

from outbox.database.trust import are_to_be_private, trusted_at
from outbox.database.way import Way, way_to
from outbox.errors import DatabaseMissingError, FileMissingError, MountedFileError

Identity = tuple[int, int]

# Held while a descriptor of a database's file is opened or closed by us, and while the process forks. A signal handler
# may fork at any moment, also while this is held.
MUTEX = threading.RLock()

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Place:
    """Where an engine's database is, whatever becomes of the working directory and of links."""

    path: Path
    """Absolute, links resolved."""
    name: str
    """What SQLite is given to open: the path, or a ``file:`` URI of it."""
    way: Way
    """How its name was followed."""
    must_exist: bool = False
    """The URI forbids SQLite to create it."""

    @property
    def is_uri(self) -> bool:
        return self.name.startswith("file:")

    def named(self, name: str) -> str:
        """Instead of ``name``, which SQLite was to be given: a URI keeps its options."""
        return self.name + "".join(name.partition("?")[1:]) if self.is_uri else self.name


def place_of(url: URL) -> Place | None:
    """None for a database in memory."""
    database = url.database
    if not database or database == ":memory:":
        return None
    if database.startswith("file:") and asbool(_one(url, "uri") or False):
        return _place_of_uri(url, database)
    return place_at(database)


def place_at(name: str) -> Place:
    way = way_to(name)
    return Place(way.path, str(way.path), way)


def _place_of_uri(url: URL, database: str) -> Place | None:
    name = database.removeprefix("file:")
    if name.startswith("//"):
        # The authority is empty or "localhost"; SQLite itself refuses any other.
        name = "/" + name[2:].partition("/")[2]
    name = unquote(name)
    if name in ("", ":memory:") or _one(url, "mode") == "memory" or _one(url, "vfs") == "memdb":
        return None
    way = way_to(name)
    return Place(way.path, f"file:{quote(str(way.path))}", way, must_exist=_one(url, "mode") in ("ro", "rw"))


def _one(url: URL, name: str) -> str | None:
    found = url.query.get(name)
    return found if found is None or isinstance(found, str) else found[-1]


def file_identity(path: Path | None) -> Identity | None:
    """Device and inode: changes when a file is replaced by another of the same name. None while there is none."""
    if path is None:
        return None
    try:
        found = os.stat(path)  # noqa: PTH116 - before and after each commit; half the time of Path's
    except OSError:
        return None
    return found.st_dev, found.st_ino


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def files_beside(path: Path) -> list[Path]:
    """What SQLite reads, and believes, together with the database."""
    return [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]


def refuse_untrusted(place: Place) -> None:
    """`UntrustedPlaceError` where another user could change or replace what is opened there."""
    trusted_at(place.way, files_beside(place.path))


def make_private(path: Path) -> None:
    """Takes group's and others' rights off a database's files, where `are_to_be_private` says so."""
    if not are_to_be_private(path):
        return
    for name in (path, *files_beside(path)):
        try:
            mode = name.stat().st_mode & 0o777
            if mode & 0o077:
                name.chmod(mode & 0o700)
        except (FileNotFoundError, PermissionError):
            continue


def must_exist(path: Path) -> None:
    """Raises `FileMissingError`; whether a database was there before is more than a file can tell."""
    if not path.exists():
        folder = no_folder(path)
        raise FileMissingError(path, folder or "; if one was there, mount or restore it, or else run `relay init`")


def no_folder(path: Path) -> str | None:
    return None if path.parent.is_dir() else f": there is no folder {path.parent}; mount it or make it"


def create_private(path: Path) -> None:
    """SQLite would create the file 0644 less the umask, and its -wal and -shm inherit the mode."""
    # Closing drops every lock that this process has on the file: nobody may find it, and lock it, in between.
    with MUTEX:
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        except FileExistsError:
            return
        except OSError as error:
            reason = no_folder(path) or f": {os.strerror(error.errno or errno.EIO)}"
            raise DatabaseMissingError(f"cannot create {path}{reason}") from error


def refuse_mount_point(path: Path) -> None:
    """`MountedFileError` where only the file is mounted: what is written to its -wal stays on this side."""
    if _is_mount_point(path):
        raise MountedFileError(
            f"{path} is a mount point by itself, so its -wal would not be the one that the other side reads; "
            f"mount its folder, {path.parent}, instead of the file"
        )


def _is_mount_point(path: Path) -> bool:
    try:
        mounts = _MOUNTS.read_bytes()
    except OSError:
        # Not Linux, where a file bound from the same file system has its folder's device.
        own, folder = file_identity(path), file_identity(path.parent)
        return own is not None and folder is not None and own[0] != folder[0]
    wanted = os.fsencode(path)
    return any(_OCTAL.sub(_unescaped, line.split(b" ", 5)[4]) == wanted for line in mounts.splitlines())


def _unescaped(found: re.Match[bytes]) -> bytes:
    return bytes([int(found[1], 8)])
