"""`relay replay`."""

import click
from sqlalchemy import Engine

from outbox.message import Destination
from relay.commands.context import Run, pass_run, prints
from relay.commands.replayed import report_delivered, report_enqueued
from relay.destinations.schemes import kind_of, known_as
from relay.differences import Comparison
from relay.drop import beyond_replay
from relay.equal_now import compare_afterwards, updated_at_of
from relay.errors import UsageError
from relay.instants import parse_instant
from relay.introduction import count_from_here, refuse_elsewhere
from relay.open import open_gateway, open_mirror, open_source
from relay.replay import Above, Replayed, count_selected, enqueue_selected, refuse_unknown, see_through
from relay.topics import Selection
from relay.urls import reaching

MOST_ROWS_A_SECOND = 1_000_000


@click.command()
@click.option("--since", metavar="T", help="Rows changed at T or later: 15m, 2h, 7d ago, or ISO 8601 with an offset.")
@click.option("--until", metavar="T", help="Rows changed before T.")
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only this invite; may be given several times.")
@click.option("--dead", "only_dead", is_flag=True, help="Only invites of which a message is dead.")
@click.option("--all", "everything", is_flag=True, help="Every invite.")
@click.option("--touch", is_flag=True, help="Raise updated_at of each row first, so that it wins over the gateway's.")
@click.option("--dry-run", is_flag=True, help="Only say how many rows would be enqueued.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N rows.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="R", help="At most R rows a second.")
@click.option("--no-wait", is_flag=True, help="Enqueue and leave the delivering to a relay.")
@prints
@pass_run
def replay(
    run: Run,
    since: str | None,
    until: str | None,
    ids: tuple[str, ...],
    only_dead: bool,
    everything: bool,
    touch: bool,
    dry_run: bool,
    limit: int | None,
    rate: float | None,
    no_wait: bool,
) -> None:
    """Enqueue the current rows again, to repair drift, see them delivered, and compare them."""
    if rate is not None and not rate < MOST_ROWS_A_SECOND:
        raise UsageError(f"--rate must be a number below {MOST_ROWS_A_SECOND}")
    narrowed = since is not None or until is not None or bool(ids) or only_dead
    if narrowed == everything:
        raise UsageError("say which rows: --since T, --until T, --id ID or --dead, or else --all")
    selection = Selection(
        since=None if since is None else parse_instant(since, run.now),
        until=None if until is None else parse_instant(until, run.now),
        ids=ids or None,
        only_dead=only_dead,
    )
    if None not in (selection.since, selection.until) and selection.since >= selection.until:  # type: ignore[operator]
        raise UsageError("--since must lie before --until; as given no row can match")
    source = open_source(run.settings)
    refuse_unknown(source, ids)
    if dry_run:
        run.printer.record({"would_enqueue": count_selected(source, selection, limit)}, "Replay, dry run")
        return
    gateway = None if no_wait else open_gateway(run.settings)
    if gateway is not None:
        refuse_elsewhere(source, gateway, Destination.GATEWAY, known_as(run.settings.gateway))
    with run.printer.bar("enqueued") as bar:
        done = enqueue_selected(
            source,
            selection,
            lambda so_far: bar.at(so_far.enqueued + so_far.waited, so_far.selected),
            on_odd=run.printer.warn,
            limit=limit,
            rate=rate,
            above=_above(run, source, selection) if touch else None,
        )
    beyond = list(beyond_replay(source)) if only_dead and not (ids or since or until) else []
    if gateway is None:
        report_enqueued(run, done, beyond)
        return
    if len(done.messages):
        with run.printer.bar("delivered", len(done.messages)) as bar:
            see_through(source, gateway, run.settings, done, lambda so_far: bar.at(so_far.delivered))
    if everything and limit is None and not done.refused and not done.odd:
        count_from_here(source, gateway, Destination.GATEWAY, known_as(run.settings.gateway))
    report_delivered(run, done, _compared(run, source, done), beyond)


def _above(run: Run, source: Engine, selection: Selection) -> Above:
    """Where no rows are shown nobody knows what must be exceeded, and the clock must do."""
    if not kind_of(run.settings.gateway).shows_rows:
        return lambda _place, _limit: {}
    mirror = open_mirror(run.settings, source)
    return updated_at_of(source, mirror, selection)


def _compared(run: Run, source: Engine, done: Replayed) -> Comparison | None:
    """The rows that were replayed, as both stores have them now; None where the gateway shows none."""
    if not kind_of(run.settings.gateway).shows_rows:
        return None
    seen = Comparison()
    mirror = open_mirror(run.settings, source)
    with reaching("a store"), run.printer.bar("compared", len(done.ids)) as bar:
        for through in compare_afterwards(source, mirror, done.ids, seen):
            bar.at(through)
    return seen
