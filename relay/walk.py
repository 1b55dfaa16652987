"""Going through both stores side by side, in the order of ids and in constant memory."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import Engine

from outbox import reading
from outbox.database.driver import is_plain_text
from outbox.pages import PAGE_BYTES, START, Page, Pages, Value, Values
from relay.topics import Topic

PAGE = 1_000

Pair = tuple[Values | None, Values | None]


@dataclass(slots=True)
class Differing:
    """Rows on which the stores disagree: by id, or whole where the id is not one to look a row up by."""

    ids: list[str] = field(default_factory=list)
    odd: list[Pair] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.ids) + len(self.odd)


def differing_rows(
    source: Engine,
    mirror: Engine,
    topic: Topic,
    *,
    since: int | None,
    on_ours: Callable[[int], None],
    on_theirs: Callable[[int], None],
) -> Iterator[Differing]:
    """What two cursors, moving together in the order of ids, found to differ; never more at a time than can be held.

    With ``since`` only rows changed since on either side. Each page is read in a short transaction of its own, after
    which ``on_ours`` or ``on_theirs`` is told how many rows it had.
    """
    updated_at = topic.columns.index("updated_at")
    ours = _Cursor(source, topic.source, on_ours)
    theirs = _Cursor(mirror, topic.mirror, on_theirs)
    found, size_before = Differing(), 0
    while ours.row is not None or theirs.row is not None:
        if ours.page_equals(theirs):
            ours.next_page()
            theirs.next_page()
            continue
        pair = _next_of_both(ours, theirs)
        if pair[0] != pair[1] and (since is None or max(_instant(row, updated_at) for row in pair) >= since):
            _note(found, pair)
        if len(found) == PAGE or ours.size + theirs.size - size_before > PAGE_BYTES:
            yield found
            found, size_before = Differing(), ours.size + theirs.size
    yield found


def _next_of_both(ours: "_Cursor", theirs: "_Cursor") -> Pair:
    """The row of the lower id, from the side or sides that have it."""
    left, right = ours.row, theirs.row
    if left is not None and right is not None and left[0] != right[0]:
        left, right = (left, None) if _order(left[0]) < _order(right[0]) else (None, right)
    if left is not None:
        ours.move()
    if right is not None:
        theirs.move()
    return left, right


def _note(found: Differing, pair: Pair) -> None:
    id_ = next(row[0] for row in pair if row is not None)
    if isinstance(id_, str) and is_plain_text(id_):
        found.ids.append(id_)
    else:
        found.odd.append(pair)


def _order(id_: Value) -> tuple[int, bytes]:
    """The databases' own order: NULL, then texts, then blobs, each by its bytes."""
    if isinstance(id_, str):
        return 1, id_.encode(errors="surrogateescape")
    # An id too large to be read is put first, and so passed at once.
    return (2, id_) if isinstance(id_, bytes) else (0, b"")


def _instant(row: Values | None, position: int) -> float:
    """When a row changed; one that does not say so counts as changed now, or nobody would see it."""
    instant = -math.inf if row is None else row[position]
    return instant if isinstance(instant, int | float) else math.inf


class _Cursor:
    """Goes through one side's rows by id, a page at a time. ``size`` is that of all pages so far, in bytes."""

    def __init__(self, engine: Engine, pages: Pages, on_page: Callable[[int], None]) -> None:
        self._engine, self._pages, self._on_page = engine, pages, on_page
        self._page = Page([], 0, START)
        self._at = 0
        self.size = 0
        self.next_page()

    @property
    def row(self) -> Values | None:
        """None at the end."""
        return self._page.rows[self._at] if self._at < len(self._page.rows) else None

    def page_equals(self, other: "_Cursor") -> bool:
        """Whether both are at the start of pages that agree, as nearly all do."""
        return self._at == other._at == 0 and self._page.rows == other._page.rows

    def move(self) -> None:
        self._at += 1
        if self._at >= len(self._page.rows):
            self.next_page()

    def next_page(self) -> None:
        place, self._at, self._page = self._page.following, 0, Page([], 0, None)
        if place is None:
            return
        with reading(self._engine) as connection:
            self._page = self._pages.page(connection, place, PAGE)
        self.size += self._page.size
        self._on_page(len(self._page.rows))
