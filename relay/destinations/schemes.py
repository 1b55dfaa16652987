"""The kinds of destination by the schemes of their URLs. A new kind is one more file, and a line here."""

from relay.destinations import database, socket
from relay.destinations.kind import Kind

KINDS = {
    "sqlite": database.KIND,
    "sqlite+pysqlite": database.KIND,
    "postgresql+psycopg": database.KIND,
    "unix": socket.KIND,
}
# Its check says what can be written.
OF_ANY_OTHER_SCHEME = database.KIND


def kind_of(url: str) -> Kind:
    """The kind that ``--gateway`` names; the URL may still be none that the kind's own `check` takes.

    Raises `UsageError` for one that is of no kind, and looks like one of a kind.
    """
    if _scheme_of(url) not in KINDS:
        for kind in KINDS.values():
            if kind.is_meant(url):
                kind.check(url, "--gateway")
    return _kind(url)


def shown(url: str) -> str:
    """The URL of either side, fit to be printed: without its password."""
    return _kind(url).shown(url)


def shown_whole(url: str) -> str:
    """`shown`, a file by its whole path: a relative one says nothing of which file it was."""
    return _kind(url).shown_whole(url)


def known_as(url: str) -> str:
    """A URL fit to be shown, in characters that every database can keep, and so find again."""
    return shown(url).encode("ascii", "backslashreplace").decode()


def _kind(url: str) -> Kind:
    return KINDS.get(_scheme_of(url), OF_ANY_OTHER_SCHEME)


def _scheme_of(url: str) -> str:
    scheme, separator, _ = url.partition("://")
    return scheme if separator else ""
