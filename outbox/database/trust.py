"""Whose files and folders are used: ours, root's, and those of the users whom ``RELAY_TRUSTED_UID`` names.

A place is trusted as a whole: its files, the folder that holds them, each folder further up and each link on the way.
From the root down, nobody else can change what is trusted, so what was looked at is what is opened.

Root can be pointed at anybody's files, and trusts their owner. The group of a file counts as others.
"""

import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from outbox.database.way import Seen, Way, look, way_to
from outbox.errors import UntrustedPlaceError

VARIABLE = "RELAY_TRUSTED_UID"
NOBODY = "none"

_HIGHEST_UID = 2**32 - 2
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OWN = "use a folder of your own"
NAME_IT = f"name the user in {VARIABLE} if you trust it"


def owners_can_be_told() -> bool:
    """False on Windows, where Python knows no user's number."""
    return hasattr(os, "geteuid")


@lru_cache
def uids_in(text: str) -> frozenset[int]:
    """The users whom a value of `VARIABLE` names; `ValueError` where it names none and is not `NOBODY`."""
    if text.strip() in ("", NOBODY):
        return frozenset()
    parts = [one.strip() for one in text.split(",")]
    if not all(one.isascii() and one.isdecimal() and int(one) <= _HIGHEST_UID for one in parts):
        raise ValueError("must be a user's number such as 1000, or several, 1000,1001")
    return frozenset(map(int, parts))


def named_uids() -> frozenset[int]:
    """Read here and nowhere else: the library has no settings, and its process must judge as the relay does."""
    text = os.environ.get(VARIABLE, "")
    try:
        return uids_in(text)
    except ValueError as error:
        raise UntrustedPlaceError(f"{VARIABLE} {error}; it is {text!r}") from None


def trusted_at(way: Way, beside: Iterable[Path] = (), *, as_root_the_owner: bool = True) -> frozenset[int]:
    """The users who are trusted with what ``way`` leads to; `UntrustedPlaceError` names the place that is not theirs.

    ``beside`` are files that are trusted with it; neither need exist. Of a socket the rights are not asked: they say
    who may connect.
    """
    named = named_uids()
    if not owners_can_be_told():
        return named
    now = way_to(way.path)
    main, holder = look(now.path), look(now.path.parent)
    always = named | {0, os.geteuid()}
    owner = main if main is not None and main.uid else holder
    is_root = os.geteuid() == 0 and as_root_the_owner
    trust = _Trust(always | {owner.uid} if is_root and owner is not None else always, always, named)
    problem = (
        trust.problem_on(now.seen, now.path.parent)
        or trust.problem_with_name(way)
        or trust.problem_with_files(main, (look(one) for one in beside))
    )
    if problem is not None:
        raise UntrustedPlaceError(problem)
    return trust.uids


def are_to_be_private(main: Path) -> bool:
    """Whether a database's files are ours to close to others, and nobody lets others write to them on purpose."""
    found = look(main, through_links=True)
    if found is None or not owners_can_be_told():
        return found is not None
    is_shared = found.uid in named_uids() and bool(found.mode & _OTHERS_WRITE)
    return os.geteuid() in (0, found.uid) and not is_shared


@dataclass(frozen=True, slots=True)
class _Trust:
    uids: frozenset[int]
    always: frozenset[int]
    """Without the owner whom root trusts with what is theirs."""
    named: frozenset[int]
    """Whose rights for others are taken as meant."""

    def problem_on(self, seen: Iterable[Seen], holder: Path | None) -> str | None:
        """With the folders and links on a way, ``holder`` the folder at its end."""
        return _first(
            self._problem_with_link(one) if one.is_link else self._problem_with_folder(one, holds=one.path == holder)
            for one in seen
        )

    def problem_with_name(self, way: Way) -> str | None:
        """With how the name was followed when its place was made out: forgiven if it leads there rightly by now."""
        problem = self.problem_on(way.seen, None)
        if problem is not None:
            now = way_to(way.name)
            if now.path == way.path:
                return self.problem_on(now.seen, None)
        return problem

    def problem_with_files(self, main: Seen | None, beside: Iterable[Seen | None]) -> str | None:
        found = [one for one in (main, *beside) if one is not None]
        targets = (look(one.path, through_links=True) for one in found if one.is_link)
        # Whoever lets others write to its database lets them write to what is made beside it.
        is_meant = main is not None and main.uid in self.named
        return _first(self._problem_with_file(one, is_meant) for one in (*found, *targets) if one is not None)

    def _problem_with_link(self, link: Seen) -> str | None:
        folder = look(link.path.parent)
        # Where others can make one, root may be pointed at its own files by it, or away from them.
        uids = self.uids if folder is not None and not folder.mode & _OTHERS_WRITE else self.always
        if link.uid in uids:
            return None
        return (
            f"the link {link.path} belongs to another user ({link.uid}), who could point it elsewhere; "
            f"{_OWN}, or {NAME_IT}"
        )

    def _problem_with_folder(self, one: Seen, *, holds: bool) -> str | None:
        if one.uid not in self.uids:
            return (
                f"{one.path} belongs to another user ({one.uid}), who could replace what is in it; {_OWN}, or {NAME_IT}"
            )
        is_sticky = bool(one.mode & stat.S_ISVTX)
        if not one.mode & _OTHERS_WRITE or one.uid in self.named or (is_sticky and not holds):
            return None
        is_shared = is_sticky or os.geteuid() not in (0, one.uid)
        cure = _OWN if is_shared else f"chmod {700 if holds else 'go-w'} it"
        return f"{one.path} can be written to by others, who could replace what is in it; {cure}"

    def _problem_with_file(self, one: Seen, is_meant: bool) -> str | None:
        if one.uid not in self.uids:
            return f"{one.path} belongs to another user ({one.uid}), who can change it; remove it, or {NAME_IT}"
        if is_meant or one.uid in self.named or not stat.S_ISREG(one.mode) or not one.mode & _OTHERS_WRITE:
            return None
        return f"{one.path} can be written to by others; if nobody has, chmod 600 it"


def _first(problems: Iterable[str | None]) -> str | None:
    return next((one for one in problems if one is not None), None)
