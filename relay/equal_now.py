"""What a replay has to know of the gateway's rows: what touching must exceed, and what is equal afterwards."""

from collections.abc import Iterator, Mapping

from sqlalchemy import Engine

from outbox import reading
from outbox.database.driver import is_plain_text
from outbox.pages import Place
from relay.compare import compare_known
from relay.differences import Comparison
from relay.id_pages import IdPages
from relay.replay import Above
from relay.topics import INVITES, Selection, Topic


def updated_at_of(source: Engine, mirror: Engine, selection: Selection, topic: Topic = INVITES) -> Above:
    """The instants of the gateway's rows, read before the transaction that touches the assistant's: none of one store
    is kept open for the other. A row that changes meanwhile shows in the comparison."""
    column = topic.columns.index("updated_at")

    def above(place: Place, limit: int) -> Mapping[str, int]:
        with reading(source) as connection:
            page = topic.source.page(connection, place, limit, selection.conditions())
        ids = [row[0] for row in page.rows if isinstance(row[0], str) and is_plain_text(row[0])]
        with reading(mirror) as connection:
            theirs = topic.mirror.by_id(connection, ids)
        return {id_: instant for id_, row in theirs.items() if isinstance(instant := row[column], int)}

    return above


def compare_afterwards(source: Engine, mirror: Engine, ids: IdPages, seen: Comparison) -> Iterator[int]:
    """Compares the rows of ``ids``, a page at a time, into ``seen``; gives how many of them are through."""
    through = 0
    for page in ids:
        for _ in compare_known(source, mirror, page, seen):
            pass
        through += len(page)
        yield through
