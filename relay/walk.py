"""Going through both stores side by side, in the order of ids and in constant memory."""

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Engine

from outbox import reading
from relay.topics import Side, Topic, Values

PAGE = 1_000


def differing_ids(
    source: Engine,
    mirror: Engine,
    topic: Topic,
    *,
    since: int | None,
    on_ours: Callable[[int], None],
    on_theirs: Callable[[int], None],
) -> Iterator[list[str]]:
    """Pages of ids on which two cursors, moving together in the order of ids, found the stores to disagree.

    With ``since`` only rows changed since on either side. Each page is read in a short transaction of its own, after
    which ``on_ours`` or ``on_theirs`` is told how many rows it had.
    """
    updated_at = topic.columns.index("updated_at")
    ours = _Cursor(source, topic.source, on_ours)
    theirs = _Cursor(mirror, topic.mirror, on_theirs)
    found: list[str] = []
    while ours.row is not None or theirs.row is not None:
        if ours.page_equals(theirs):
            ours.next_page()
            theirs.next_page()
            continue
        left, right = ours.row, theirs.row
        if right is None or (left is not None and str(left[0]) < str(right[0])):
            row, other = left, None
            ours.move()
        elif left is None or str(right[0]) < str(left[0]):
            row, other = right, None
            theirs.move()
        else:
            row, other = left, right
            ours.move()
            theirs.move()
        if row == other or row is None:
            continue
        if since is None or max(_instant(row, updated_at), _instant(other, updated_at)) >= since:
            found.append(str(row[0]))
        if len(found) == PAGE:
            yield found
            found = []
    if found:
        yield found


def _instant(row: Values | None, position: int) -> int:
    return 0 if row is None else int(row[position] or 0)


class _Cursor:
    """Goes through one side's rows by id, a page at a time."""

    def __init__(self, engine: Engine, side: Side, on_page: Callable[[int], None]) -> None:
        self._engine, self._side, self._on_page = engine, side, on_page
        self._page: Sequence[Values] = []
        self._at = 0
        self._after: str | None = ""
        self.next_page()

    @property
    def row(self) -> Values | None:
        """None at the end."""
        return self._page[self._at] if self._at < len(self._page) else None

    def page_equals(self, other: "_Cursor") -> bool:
        """Whether both are at the start of pages that agree, as nearly all do."""
        return self._at == other._at == 0 and self._page == other._page

    def move(self) -> None:
        self._at += 1
        if self._at >= len(self._page):
            self.next_page()

    def next_page(self) -> None:
        self._at, self._page = 0, []
        if self._after is None:
            return
        with reading(self._engine) as connection:
            self._page = self._side.page(connection, after=self._after, limit=PAGE)
        self._on_page(len(self._page))
        self._after = str(self._page[-1][0]) if len(self._page) == PAGE else None
