"""Comparing the stores: what differs, how, and whether a message still waits that will repair it."""

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

import structlog
from sqlalchemy import Engine

from outbox import Destination, reading, statements
from outbox.driver import is_plain_text
from outbox.pages import Value, Values, shown_id
from relay.errors import InterruptedRelayError, UsageError
from relay.open import open_mirror
from relay.settings import Settings
from relay.topics import INVITES, STATUS_RANK, Topic
from relay.urls import reaching
from relay.walk import Pair, differing_rows

log = structlog.get_logger()


class Kind(StrEnum):
    MISSING = "missing"
    """Only in the assistant's store."""
    CONTACT_MISSING = "contact_missing"
    """Only in the assistant's store, and the gateway does not know its contact either."""
    EXTRA = "extra"
    """Only in the gateway's store."""
    STATUS_BEHIND = "status_behind"
    """The gateway would let in more than the assistant allows: an earlier status, or fewer uses counted."""
    STALE = "stale"
    """The gateway has an older state, but no more open than the newer one."""
    FIELDS_DIFFER = "fields_differ"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row on which the stores disagree. ``waiting``: a message for it is still in the outbox.

    An ``id`` that is no plain text is shown as SQLite writes it, and is itself among the ``fields``.
    """

    id: str
    kind: Kind
    fields: tuple[str, ...]
    waiting: bool


@dataclass(slots=True)
class Comparison:
    """What a pass has seen so far."""

    assistant_rows: int = 0
    gateway_rows: int = 0
    waiting: int = 0
    by_kind: dict[str, int] = field(default_factory=lambda: {kind.value: 0 for kind in Kind})

    def count(self, found: Iterable["Difference"]) -> Iterator["Difference"]:
        for difference in found:
            self.by_kind[difference.kind.value] += 1
            self.waiting += difference.waiting
            yield difference

    @property
    def differences(self) -> int:
        return sum(self.by_kind.values())


def compare(
    source: Engine,
    mirror: Engine,
    seen: Comparison,
    *,
    since: int | None = None,
    on_page: Callable[[], None] = lambda: None,
    topic: Topic = INVITES,
) -> Iterator[Difference]:
    """Every difference, by id; ``seen`` is kept up to date. With ``since`` only rows changed since on either side.

    Each page is read in short transactions of its own, so the stores may change meanwhile: a row that differs is read
    again, from both, before it is reported.
    """

    def count_ours(rows: int) -> None:
        seen.assistant_rows += rows
        on_page()

    def count_theirs(rows: int) -> None:
        seen.gateway_rows += rows
        on_page()

    for differing in differing_rows(source, mirror, topic, since=since, on_ours=count_ours, on_theirs=count_theirs):
        yield from seen.count(_confirmed(source, mirror, differing.ids, topic))
        yield from seen.count(_odd(pair, topic) for pair in differing.odd)


def compare_ids(
    source: Engine, mirror: Engine, ids: list[str], seen: Comparison, topic: Topic = INVITES
) -> Iterator[Difference]:
    """The differences among some rows only. Raises `UsageError` for an id that neither store knows."""
    plain = list(filter(is_plain_text, ids))
    with reading(source) as connection:
        ours = topic.source.by_id(connection, plain)
    with reading(mirror) as connection:
        theirs = topic.mirror.by_id(connection, plain)
    unknown = sorted(set(ids) - ours.keys() - theirs.keys())
    if unknown:
        raise UsageError(f"neither store has an invite {', '.join(map(shown_id, unknown))}")
    seen.assistant_rows, seen.gateway_rows = len(ours), len(theirs)
    return seen.count(_confirmed(source, mirror, ids, topic))


def check_drift(settings: Settings, source: Engine, stop: threading.Event) -> Comparison:
    """Compares the stores, logs each difference that no waiting message will repair, and returns the counts."""

    def go_on() -> None:
        if stop.is_set():
            raise InterruptedRelayError("stopped before the drift check was through")

    seen = Comparison()
    mirror = open_mirror(settings, source)
    try:
        with reaching("a store"):
            for difference in compare(source, mirror, seen, on_page=go_on):
                if not difference.waiting:
                    log.warning("drift", invite=difference.id, kind=difference.kind.value, fields=difference.fields)
    finally:
        mirror.dispose()
    log.info("drift_checked", rows=seen.assistant_rows, drift=seen.differences - seen.waiting, waiting=seen.waiting)
    return seen


def _confirmed(source: Engine, mirror: Engine, ids: list[str], topic: Topic, again: int = 3) -> list[Difference]:
    """The differences among ``ids`` that are no mere effect of reading one store after the other."""
    if not ids:
        return []
    with reading(source) as connection:
        ours = topic.source.by_id(connection, ids)
        waiting = statements.unsettled_keys(connection, Destination.GATEWAY, topic.name, ids)
    contact = topic.columns.index("contact_id")
    with reading(mirror) as connection:
        theirs = topic.mirror.by_id(connection, ids)
        missing = {one for id_, row in ours.items() if id_ not in theirs and isinstance(one := row[contact], str)}
        contacts = topic.known_references(connection, missing)
    differing = [id_ for id_ in ids if ours.get(id_) != theirs.get(id_)]
    with reading(source) as connection:
        now = topic.source.by_id(connection, differing)
    # A row that changed between the reads may have been mirrored in between, and then looked ahead: read it again.
    moved = [id_ for id_ in differing if now.get(id_) != ours.get(id_)] if again else []
    found = []
    for id_ in differing:
        if id_ not in moved:
            left, right = ours.get(id_), theirs.get(id_)
            fields = _fields(left, right, topic)
            found.append(Difference(id_, _kind(left, right, contacts, topic), fields, id_ in waiting))
    return found + (_confirmed(source, mirror, moved, topic, again - 1) if moved else [])


def _fields(left: Values | None, right: Values | None, topic: Topic) -> tuple[str, ...]:
    if left is None or right is None:
        return ()
    return tuple(name for name, ours, theirs in zip(topic.columns, left, right, strict=True) if ours != theirs)


def _odd(pair: Pair, topic: Topic) -> Difference:
    """A row whose id no other store can have, or that cannot even be looked up: read once, and named."""
    left, right = pair
    (id_, *_) = left or right or (None,)
    fields = tuple(dict.fromkeys(("id", *_fields(left, right, topic))))
    return Difference(shown_id(id_), _kind(left, right, set(), topic, Kind.MISSING), fields, waiting=False)


def _kind(
    left: Values | None, right: Values | None, contacts: set[str], topic: Topic, only_here: Kind = Kind.CONTACT_MISSING
) -> Kind:
    if left is None:
        return Kind.EXTRA
    ours = dict(zip(topic.columns, left, strict=True))
    if right is None:
        return Kind.MISSING if ours["contact_id"] in contacts else only_here
    theirs = dict(zip(topic.columns, right, strict=True))
    if _rank(theirs["status"]) < _rank(ours["status"]) or _is_less(theirs["use_count"], ours["use_count"]):
        return Kind.STATUS_BEHIND
    if _is_less(theirs["updated_at"], ours["updated_at"]):
        return Kind.STALE
    return Kind.FIELDS_DIFFER


def _is_less(one: Value, other: Value) -> bool:
    """False of what is no number: such a row is neither behind nor ahead, it is odd."""
    return isinstance(one, int | float) and isinstance(other, int | float) and one < other


def _rank(status: Value) -> int:
    return STATUS_RANK.get(status, -1) if isinstance(status, str) else -1
