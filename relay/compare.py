"""Comparing the stores: what differs, how, and whether a message still waits that will repair it."""

import threading
from collections.abc import Callable, Iterator, Set

import structlog
from sqlalchemy import Engine

from outbox import Destination, reading, statements
from outbox.database.driver import is_plain_text
from outbox.pages import Values, shown_id
from relay.cures import Cure, Kind, cure_of, kind_of, lets_nobody_in
from relay.differences import Comparison, Difference
from relay.errors import InterruptedRelayError, UsageError
from relay.open import open_mirror
from relay.settings import Settings
from relay.topics import INVITES, Topic
from relay.urls import reaching
from relay.walk import Pair, differing_rows

log = structlog.get_logger()


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
    ours, theirs = _known(source, mirror, plain, topic)
    unknown = sorted(set(ids) - ours - theirs)
    if unknown:
        raise UsageError(f"neither store has an invite {', '.join(map(shown_id, unknown))}")
    return compare_known(source, mirror, plain, seen, topic)


def compare_known(
    source: Engine, mirror: Engine, ids: list[str], seen: Comparison, topic: Topic = INVITES
) -> Iterator[Difference]:
    """The differences among a page of rows, whose ids are plain text; one that neither store has is passed over."""
    ours, theirs = _known(source, mirror, ids, topic)
    seen.assistant_rows += len(ours)
    seen.gateway_rows += len(theirs)
    return seen.count(_confirmed(source, mirror, ids, topic))


def _known(source: Engine, mirror: Engine, ids: list[str], topic: Topic) -> tuple[set[str], set[str]]:
    with reading(source) as connection:
        ours = set(topic.source.by_id(connection, ids))
    with reading(mirror) as connection:
        return ours, set(topic.mirror.by_id(connection, ids))


def check_drift(settings: Settings, source: Engine, stop: threading.Event) -> Comparison:
    """Compares the stores, logs each difference that no waiting message repairs, and returns the counts."""

    def go_on() -> None:
        if stop.is_set():
            raise InterruptedRelayError("stopped before the drift check was through")

    seen = Comparison()
    mirror = open_mirror(settings, source)
    try:
        with reaching("a store"):
            for difference in compare(source, mirror, seen, on_page=go_on):
                if difference.is_open:
                    log.warning("drift", invite=difference.id, kind=difference.kind.value, fields=difference.fields)
    finally:
        mirror.dispose()
    log.info("drift_checked", rows=seen.assistant_rows, drift=seen.open, waiting=seen.waiting)
    return seen


def _confirmed(source: Engine, mirror: Engine, ids: list[str], topic: Topic, again: int = 3) -> list[Difference]:
    """The differences among ``ids`` that are no mere effect of reading one store after the other."""
    if not ids:
        return []
    destination = Destination.GATEWAY
    with reading(source) as connection:
        ours = topic.source.by_id(connection, ids)
        waiting = statements.unsettled_keys(connection, destination, topic.name, ids)
        states = [state for id_ in waiting if id_ in ours and (state := topic.current_state(ours[id_]))]
        current = statements.waiting_states(connection, destination, topic.name, states)
    contact = topic.columns.index("contact_id")
    with reading(mirror) as connection:
        theirs = topic.mirror.by_id(connection, ids)
        differing = [id_ for id_ in ids if ours.get(id_) != theirs.get(id_)]
        wanted = {one for id_ in differing if id_ in ours and isinstance(one := ours[id_][contact], str)}
        contacts = topic.known_references(connection, wanted)
    with reading(source) as connection:
        now = topic.source.by_id(connection, differing)
    # A row that changed between the reads may have been mirrored in between, and then looked ahead: read it again.
    moved = [id_ for id_ in differing if now.get(id_) != ours.get(id_)]
    found = []
    for id_ in differing:
        if id_ not in moved or not again:
            left, right = ours.get(id_), theirs.get(id_)
            # One that changes at each look, and waits, is on its way.
            comes = id_ in current or (id_ in moved and id_ in waiting)
            found.append(_difference(id_, left, right, contacts, topic, id_ in waiting, comes))
    return found + (_confirmed(source, mirror, moved, topic, again - 1) if moved and again else [])


def _difference(
    id_: str,
    left: Values | None,
    right: Values | None,
    contacts: Set[str],
    topic: Topic,
    waiting: bool,
    comes: bool,
) -> Difference:
    """``comes``: what waits is the assistant's row as it is."""
    cure, delivering_is_enough = cure_of(left, right, contacts, topic)
    kind = kind_of(left, right, contacts, topic)
    return Difference(id_, kind, _fields(left, right, topic), waiting, comes and delivering_is_enough, cure)


def _fields(left: Values | None, right: Values | None, topic: Topic) -> tuple[str, ...]:
    if left is None or right is None:
        return ()
    return tuple(name for name, ours, theirs in zip(topic.columns, left, right, strict=True) if ours != theirs)


def _odd(pair: Pair, topic: Topic) -> Difference:
    """A row whose id no other store can have, or that cannot even be looked up: read once, and named."""
    left, right = pair
    (id_, *_) = left or right or (None,)
    fields = tuple(dict.fromkeys(("id", *_fields(left, right, topic))))
    kind = kind_of(left, right, set(), topic)
    if kind is Kind.CONTACT_MISSING:
        kind = Kind.MISSING
    cure = Cure.NONE if left is None and lets_nobody_in(right, topic) else Cure.BY_HAND
    return Difference(shown_id(id_), kind, fields, waiting=False, heals=False, cure=cure)
