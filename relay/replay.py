"""Replay: the current rows enqueued again, then seen through to the gateway."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from outbox import Destination, State, read_only, reading, statements
from outbox.counted import counted
from outbox.database.driver import is_plain_text
from outbox.database.engine import let_others_write
from outbox.leases import live_relays
from outbox.pages import START, Place, shown_id
from outbox.settle import Settled
from relay.destinations.port import GatewayUnreachableError, Port
from relay.errors import InterruptedRelayError, UnreachableError, UnrepairedError, UsageError
from relay.id_pages import IdPages
from relay.seqs import SeqSet
from relay.settings import Settings
from relay.topics import INVITES, Replayable, Selection, Topic
from relay.worker import Worker

PAGE = 500
LOOK_EVERY_SECONDS = 0.1
# A relay is given this long, without any progress, before a gateway that does not answer ends the wait.
PATIENCE_SECONDS = 10.0
# And so long, though the gateway answers, to settle the message that is first in turn.
STUCK_SECONDS = 60.0


@dataclass(slots=True)
class Replayed:
    """How far a replay is. ``unsettled`` counts its messages by state, without those that are settled.

    ``waited`` counts the rows of whose current state a message waited already: it is seen through as well. ``odd``
    counts the rows of which no message can be made, and ``ids`` are all others.
    """

    selected: int
    enqueued: int = 0
    waited: int = 0
    odd: int = 0
    ids: IdPages = field(default_factory=IdPages)
    messages: SeqSet = field(default_factory=SeqSet)
    unsettled: Counter[str] = field(default_factory=Counter)

    @property
    def delivered(self) -> int:
        """Delivered, or made unnecessary by a newer message that was."""
        return len(self.messages) - self.unsettled.total()

    @property
    def under_way(self) -> int:
        return self.unsettled[State.PENDING]

    @property
    def refused(self) -> int:
        return self.unsettled[State.RETRYING] + self.unsettled[State.DEAD]


Progress = Callable[[Replayed], None]
Odd = Callable[[str], None]
"""Told of a row that was passed over, in words."""
Above = Callable[[Place, int], Mapping[str, int]]
"""By id, for some rows from a place on, the instants that touching them must exceed."""


def count_selected(source: Engine, selection: Selection, limit: int | None, topic: Topic = INVITES) -> int:
    with Session(read_only(source)) as session:
        found = topic.count(session, selection)
    return found if limit is None else min(found, limit)


def refuse_unknown(source: Engine, ids: Sequence[str], topic: Topic = INVITES) -> None:
    """Raises `UsageError` for an id that the assistant's store does not have."""
    with reading(source) as connection:
        known = topic.source.by_id(connection, list(filter(is_plain_text, ids)))
    unknown = sorted(set(ids) - known.keys())
    if unknown:
        raise UsageError(f"the assistant's store has no invite {', '.join(map(shown_id, unknown))}")


def enqueue_selected(
    source: Engine,
    selection: Selection,
    progress: Progress,
    *,
    on_odd: Odd = lambda _: None,
    limit: int | None = None,
    rate: float | None = None,
    above: Above | None = None,
    topic: Topic = INVITES,
) -> Replayed:
    """Enqueues the current state of each selected row as origin ``replay``, a page a transaction.

    A row of which no message can be made is passed over, counted and told to ``on_odd``. ``rate`` is in rows a second.
    With ``above`` each row is touched first.
    Interrupted in between, the pages committed stay enqueued; running it again is harmless.
    """
    done = Replayed(selected=count_selected(source, selection, limit, topic))
    page = PAGE if rate is None else max(1, min(PAGE, int(rate)))
    place: Place | None = START
    rows = 0
    while place is not None and (limit is None or rows < limit):
        started = time.monotonic()
        wanted = page if limit is None else min(page, limit - rows)
        if rate is not None and rows:
            threading.Event().wait(page / rate)
        to_exceed = None if above is None else above(place, wanted)
        with Session(source) as session, session.begin():
            found = topic.replay_page(session, selection, place=place, limit=wanted, above=to_exceed)
            connection = session.connection()
            seqs = statements.replayed_just_now(connection, Destination.GATEWAY, topic.name, found.ids)
        for _, problem in found.odd:
            on_odd(problem)
        _note(done, found, seqs)
        place, rows = found.following, rows + found.rows
        progress(done)
        if place is not None:
            let_others_write(source, time.monotonic() - started)
    return done


def _note(done: Replayed, found: Replayable, seqs: Sequence[int]) -> None:
    done.messages.add([*seqs, *found.waiting.values()])
    done.unsettled[State.PENDING] += len(seqs) + len(found.waiting)
    done.enqueued += len(seqs)
    done.waited += len(found.waiting)
    done.odd += len(found.odd)
    done.ids.add([*found.ids, *found.waiting, *found.overtaken])


def see_through(source: Engine, gateway: Port, settings: Settings, done: Replayed, progress: Progress) -> None:
    """Returns once every replayed message is settled or refused for now: drained by the relays that live, or here.

    Raises `UnreachableError` if the gateway cannot be reached, `InterruptedRelayError` if asked to stop, and
    `UnrepairedError` if nothing is settled though it answers; what was enqueued stays enqueued either way.
    """
    pause = threading.Event()
    waited, moved_at, was = 0.0, time.monotonic(), None
    while True:
        under_way, started = done.under_way, time.monotonic()
        first = _look(source, done, progress)
        if not done.under_way:
            return
        if (done.under_way, first) != was:
            moved_at, was = started, (done.under_way, first)
        if started - moved_at >= STUCK_SECONDS:
            raise UnrepairedError(
                f"{counted(done.under_way, 'message is', 'messages are')} not settled, nor is message {first}, which "
                "is first in turn; see the relay's log for why. All stay enqueued"
            )
        if not _relay_lives(source):
            _drain_here(source, gateway, settings, done, progress)
            continue
        waited = 0.0 if done.under_way != under_way else waited + LOOK_EVERY_SECONDS
        if waited >= PATIENCE_SECONDS:
            waited = 0.0
            _ask(gateway)
        # With many rows under way, looking must not be what this spends its time on.
        pause.wait(max(LOOK_EVERY_SECONDS, 4 * (time.monotonic() - started)))


def _look(source: Engine, done: Replayed, progress: Progress) -> int | None:
    """Brings the counts up to date; returns the ``seq`` of the message that is first in turn, whoever enqueued it."""
    with reading(source) as connection:
        found = statements.open_replayed(connection, Destination.GATEWAY, live_too=done.waited > 0)
        done.unsettled = Counter(state for seq, state in found if seq in done.messages)
        first = statements.first_pending(connection, Destination.GATEWAY)
    progress(done)
    return first


def _relay_lives(source: Engine) -> bool:
    with reading(source) as connection:
        return bool(live_relays(connection, Destination.GATEWAY, statements.lease_clock(connection)))


def _drain_here(source: Engine, gateway: Port, settings: Settings, done: Replayed, progress: Progress) -> None:
    def count(settled: Sequence[Settled]) -> None:
        # Roughly, and cheaply; the look at the end is exact.
        done.unsettled[State.PENDING] -= sum(one.message.seq in done.messages for one in settled)
        progress(done)

    worker = Worker(source, gateway, settings, on_settled=count)
    worker.run(until_empty=True)
    _look(source, done, progress)
    if done.under_way and worker.interrupted:
        raise InterruptedRelayError("stopped; what was enqueued stays enqueued, `relay run` delivers it")


def _ask(gateway: Port) -> None:
    try:
        gateway.probe()
    except GatewayUnreachableError as error:
        raise UnreachableError(
            f"the gateway cannot be reached: {error}; what was enqueued stays enqueued, a relay delivers it later"
        ) from error
