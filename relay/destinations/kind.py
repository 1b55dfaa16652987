"""What is known of a destination by its URL alone, before it is opened."""

from collections.abc import Callable
from dataclasses import dataclass

from relay.destinations.port import Port


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of destination; `relay.destinations.schemes` has them by the schemes of their URLs."""

    check: Callable[[str, str], None]
    """Raises `UsageError`, which names the option given with it, for a URL that no destination of this kind has."""
    open: Callable[[str, float], Port]
    """The destination, unasked: it may well be unreachable now. With it goes how many seconds it may be busy."""
    answers_within: Callable[[str, float], float]
    """The most seconds for which one call of it can be awaited: what takes longer hangs. As for `open`."""
    shown: Callable[[str], str]
    """Its URL, fit to be printed: without a password."""
    shown_whole: Callable[[str], str]
    """`shown`, a file by its whole path."""
    is_meant: Callable[[str], bool] = lambda _: False
    """Whether a URL with none of the schemes is one of this kind, written wrongly."""
    is_database: bool = False
    """The relay itself looks into it, creates it and upgrades it; any other is kept by the program that serves it."""
    shows_rows: bool = False
    """Its rows can be read, and so compared."""
