"""Giving up a dead letter for good, without losing what else its row has to say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from outbox import Destination, reading
from outbox.database.driver import is_plain_text
from outbox.dead import drop_dead, list_dead, show_message
from outbox.pages import START
from relay.topics import TOPICS, Selection

PAGE = 500


@dataclass(frozen=True, slots=True)
class Dropped:
    """How many messages were dropped, of which row, and how many were enqueued in their place."""

    dropped: int
    key: str
    row_is_there: bool = False
    enqueued: int = 0


def drop(source: Engine, seq: int, who: str, why: str) -> Dropped | None:
    """Drops a dead letter and all of its key that is not newer; None if it is not dead.

    Where some of these waited, and the row is still there, its current state is enqueued in their place: they would
    have been delivered, had the dead one been.
    """
    with Session(source) as session, session.begin():
        connection = session.connection()
        row = show_message(connection, seq)
        dead, waited = drop_dead(connection, seq, who, why)
        if row is None or not dead:
            return None
        key, topic = str(row["key"]), TOPICS.get(str(row["topic"]))
        if topic is None or not is_plain_text(key) or not topic.source.by_id(connection, [key]):
            return Dropped(dead + waited, key)
        if not waited:
            return Dropped(dead, key, row_is_there=True)
        page = topic.replay_page(session, Selection(ids=[key]), place=START, limit=1, above=None)
        return Dropped(dead + waited, key, row_is_there=True, enqueued=len(page.ids))


def beyond_replay(source: Engine) -> Iterator[int]:
    """The dead letters that no replay supersedes: of rows that are gone, and of topics that nobody knows."""
    letters = list_dead(source, Destination.GATEWAY)
    while page := list(islice(letters, PAGE)):
        known = {name: _known(source, page, name) for name in TOPICS}
        yield from (row["seq"] for row in page if row["key"] not in known.get(row["topic"], ()))


def _known(source: Engine, letters: Sequence[Mapping[str, Any]], topic: str) -> set[str]:
    keys = [row["key"] for row in letters if row["topic"] == topic and is_plain_text(row["key"])]
    with reading(source) as connection:
        return set(TOPICS[topic].source.by_id(connection, keys))
