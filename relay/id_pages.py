"""Ids remembered for a second pass, in little more memory than their text takes."""

from collections.abc import Iterable, Iterator

PAGE = 500
# In no id that can be looked up.
_BETWEEN = "\0"


class IdPages:
    """Plain, non-empty lists of plain texts, as they came."""

    def __init__(self) -> None:
        self._pages: list[str] = []
        self._last: list[str] = []
        self._count = 0

    def add(self, ids: Iterable[str]) -> None:
        for id_ in ids:
            self._last.append(id_)
            self._count += 1
            if len(self._last) == PAGE:
                self._pages.append(_BETWEEN.join(self._last))
                self._last = []

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[str]]:
        """A page at a time."""
        for page in self._pages:
            yield page.split(_BETWEEN)
        if self._last:
            yield self._last
