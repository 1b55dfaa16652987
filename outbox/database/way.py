"""Where a name leads: each folder and link on the way as it was found, from the root down."""

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

_MOST_LINKS = 40


class Seen(NamedTuple):
    """A folder, a link or a file."""

    path: Path
    uid: int
    mode: int

    @property
    def is_link(self) -> bool:
        return stat.S_ISLNK(self.mode)


@dataclass(frozen=True, slots=True)
class Way:
    name: Path
    """Absolute; links and ``..`` as they were given."""
    path: Path
    """Links resolved."""
    seen: tuple[Seen, ...] = ()
    """All on the way, without what ``path`` names."""


def way_to(name: str | Path) -> Way:
    """What does not exist, or may not be looked at, is taken as it is called.

    So is the whole name where its links lead in a circle; what was seen until then stays seen.
    """
    whole = Path(os.path.abspath(name)) if os.pardir not in Path(name).parts else Path.cwd() / name  # noqa: PTH100
    seen: list[Seen] = []
    try:
        path = _walk(whole, seen)
    except OSError:
        path = Path(os.path.abspath(name))  # noqa: PTH100 - follows no links
        return Way(whole, path, tuple(seen))
    return Way(whole, path, tuple(one for one in seen if one.path != path))


def look(path: Path, *, through_links: bool = False) -> Seen | None:
    try:
        found = path.stat() if through_links else path.lstat()
    except OSError:
        # Whoever opens it is told why.
        return None
    return Seen(path, found.st_uid, found.st_mode)


def _walk(whole: Path, seen: list[Seen]) -> Path:
    at = Path(whole.anchor)
    first = look(at)
    if first is not None:
        seen.append(first)
    parts, links = [*reversed(whole.parts[1:])], 0
    while parts:
        part = parts.pop()
        if part in ("", os.curdir, os.pardir):
            at = at.parent if part == os.pardir else at
            continue
        found = look(at / part)
        if found is not None:
            seen.append(found)
        if found is None or not found.is_link:
            at /= part
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(whole))
        # The owner was asked for first: nobody else can have put another link there in between.
        target = Path(os.readlink(found.path))  # noqa: PTH115 - which would not keep each ".."
        parts.extend(reversed(target.parts[1:] if target.is_absolute() else target.parts))
        at = Path(target.anchor) if target.is_absolute() else at
    return at
