"""The ``relay`` command: one function a command, each a thin shell around the package that does the work."""

# Before all other imports, which take half a second: from here on SIGTERM means what it is documented to mean.
from relay import sigterm

sigterm.listen()

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import click

from outbox.clock import now_ms
from outbox.dead import list_dead, retry_all_dead, retry_dead, show_message
from outbox.engine import reading
from outbox.leases import Relay
from outbox.message import Destination
from outbox.prune import prune as prune_outbox
from outbox.redact import printable, redact
from relay.compare import Comparison, Difference, compare, compare_ids
from relay.console import Bar, Printer
from relay.demo import run_demo
from relay.errors import InterruptedRelayError, RelayError, UnreachableError, UnrepairedError, UsageError
from relay.instants import parse_instant
from relay.introduction import count_from_here
from relay.logs import configure_logs
from relay.open import init_stores, open_gateway, open_mirror, open_source, reaching, shown, storage_warnings
from relay.replay import Replayed, count_selected, enqueue_selected, refuse_unknown, see_through
from relay.serve import serve_gateway
from relay.settings import Settings, load_settings
from relay.standard_error import never_wait_for_standard_error
from relay.status import read_status, relay_line
from relay.topics import Selection
from relay.worker import Worker

MOST_ROWS_A_SECOND = 1_000_000
MOST_RELAYS_SHOWN = 20
UNSETTLED = ("pending", "retrying")


class ReportingGroup(click.Group):
    """Every way in which a command can end badly is one line on stderr and the exit code that the README documents."""

    def main(self, *args: Any, **named: Any) -> Any:
        never_wait_for_standard_error()
        return super().main(*args, **named)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with sigterm.raising(), reaching("a database"):
                return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            if isinstance(stopped, sigterm.Terminated) and sigterm.exit_code(sys.argv[1:]) == sigterm.STOPPED:
                return None
            error: RelayError = InterruptedRelayError("interrupted; run it again")
        except MemoryError:
            error = UnreachableError("out of memory; nothing was lost, run it again with more")
        except RelayError as found:
            error = found
        click.echo(f"relay: {printable(str(error))}", err=True)
        raise click.exceptions.Exit(error.exit_code)


class Run:
    """What one command runs with: settings, read once, and the moment it started, to which relative times refer."""

    def __init__(self, settings: Settings, as_json: bool) -> None:
        self.settings = settings
        self.printer = Printer(as_json)
        self.now = now_ms()


def prints(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command ``--json``; it can stand before the command's name as well."""

    def switch(ctx: click.Context, _option: click.Parameter, chosen: bool) -> None:
        run = ctx.find_object(Run)
        if chosen and run is not None:
            run.printer.as_json = True

    return click.option("--json", is_flag=True, expose_value=False, callback=switch, help="Print one JSON document.")(
        command
    )


pass_run = click.make_pass_decorator(Run)
SEQ = click.IntRange(min=-(2**63), max=2**63 - 1)


@click.group(cls=ReportingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--assistant-db", metavar="URL", help="The daemon's database. [env: RELAY_ASSISTANT_DB]")
@click.option("--gateway", metavar="URL", help="The gateway: its database, or its socket. [env: RELAY_GATEWAY]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.version_option(package_name="invite-relay", prog_name="relay")
@click.pass_context
def main(ctx: click.Context, assistant_db: str | None, gateway: str | None, as_json: bool) -> None:
    """Carries invites from the assistant's database to the gateway's, through a transactional outbox.

    Exit codes: 0 done or clean; 1 drift found or something unrepaired; 2 usage; 3 interrupted, run it again;
    4 a side cannot be reached or read.
    """
    settings = load_settings(assistant_db=assistant_db, gateway=gateway)
    configure_logs(settings.log_format)
    ctx.obj = Run(settings, as_json)


@main.command()
@prints
@pass_run
def init(run: Run) -> None:
    """Create or upgrade both stores. Twice is harmless; no row is lost."""
    for warning in init_stores(run.settings):
        click.echo(f"relay: warning: {warning}", err=True)
    run.printer.record(
        {"assistant_db": shown(run.settings.assistant_db), "gateway": shown(run.settings.gateway)},
        "Both stores are ready",
    )


@main.command("run")
@click.option("--until-empty", is_flag=True, help="Drain what is due, then exit.")
@click.option("--new-gateway", is_flag=True, help="From now on drain into this gateway; replay --all afterwards.")
@pass_run
def run_worker(run: Run, until_empty: bool, new_gateway: bool) -> None:
    """Drain the outbox into the gateway until stopped by SIGTERM or Ctrl-C."""
    source, gateway = open_source(run.settings), open_gateway(run.settings)
    try:
        worker = Worker(source, gateway, run.settings, new_gateway=new_gateway)
        worker.run(until_empty=until_empty)
        if until_empty and worker.interrupted:
            raise InterruptedRelayError("stopped before the outbox was empty; run it again")
    finally:
        gateway.close()
        source.dispose()


@main.command()
@prints
@pass_run
def status(run: Run) -> None:
    """Say what waits, since when, who drains it, and whether the gateway answers (exit code 4 if not)."""
    gateway = open_gateway(run.settings)
    source, url = open_source(run.settings), shown(run.settings.gateway)
    found = read_status(source, gateway, url, storage_warnings(run.settings))
    fields = found.as_dict()
    if not run.printer.as_json:
        fields["relays"] = _relay_lines(found.relays) or None
        del fields["warnings"], fields["wrong"], fields["from_the_future"]
    run.printer.record(fields, "Outbox")
    for warning in found.warnings:
        run.printer.warn(warning)
    if found.gateway_problem or found.wrong:
        click.get_current_context().exit(4 if found.gateway_problem else 1)


def _relay_lines(relays: Sequence[Relay]) -> list[str]:
    lines = [relay_line(one) for one in relays[:MOST_RELAYS_SHOWN]]
    more = len(relays) - len(lines)
    return [*lines, f"and {more} more"] if more else lines


@main.command()
@click.option("--since", metavar="T", help="Rows changed at T or later: 15m, 2h, 7d ago, or ISO 8601 with an offset.")
@click.option("--until", metavar="T", help="Rows changed before T.")
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only this invite; may be given several times.")
@click.option("--dead", "only_dead", is_flag=True, help="Only invites of which a message is dead.")
@click.option("--all", "everything", is_flag=True, help="Every invite.")
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
    dry_run: bool,
    limit: int | None,
    rate: float | None,
    no_wait: bool,
) -> None:
    """Enqueue the current rows again, to repair drift, and see them delivered."""
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
    with run.printer.bar("enqueued") as bar:
        done = enqueue_selected(
            source,
            selection,
            lambda so_far: bar.at(so_far.enqueued, so_far.selected),
            on_odd=run.printer.warn,
            limit=limit,
            rate=rate,
        )
    if not no_wait and done.enqueued:
        with run.printer.bar("delivered", done.enqueued) as bar:
            gateway = open_gateway(run.settings)
            see_through(source, gateway, run.settings, done, lambda so_far: bar.at(so_far.repaired))
            if everything and not done.unrepaired:
                count_from_here(source, gateway, Destination.GATEWAY)
    _report_replay(run, done, waited=not no_wait)


def _report_replay(run: Run, done: Replayed, waited: bool) -> None:
    shown = {"selected": done.selected, "enqueued": done.enqueued}
    if waited:
        shown |= {"repaired": done.repaired, "unrepaired": done.unrepaired}
    run.printer.record(shown, "Replay")
    problems = [
        (done.refused, "messages were refused; see `relay dead list` and `relay status`"),
        (done.odd, "rows cannot be enqueued; correct them by hand"),
    ]
    if done.unrepaired:
        raise UnrepairedError("; ".join(f"{count} {problem}" for count, problem in problems if count))


@main.command()
@click.option("--since", metavar="T", help="Only rows changed on either side at T or later.")
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only this invite; may be given several times.")
@prints
@pass_run
def verify(run: Run, since: str | None, ids: tuple[str, ...]) -> None:
    """Compare both stores row by row and name every difference by kind."""
    if ids and since is not None:
        raise UsageError("give --id or --since, not both")
    start = None if since is None else parse_instant(since, run.now)
    source = open_source(run.settings)
    mirror = open_mirror(run.settings)
    seen = Comparison()
    last: dict[str, Any] = {}

    def lines(bar: Bar) -> Iterator[tuple[str, dict[str, Any]]]:
        if ids:
            found = compare_ids(source, mirror, list(ids), seen)
        else:
            found = compare(source, mirror, seen, since=start, on_page=lambda: bar.at(seen.assistant_rows))
        for difference in found:
            yield _line(difference), asdict(difference)
        last.update(asdict(seen) | {"differences_found": seen.differences})

    with reaching("a store"), run.printer.bar("compared") as bar:
        run.printer.stream("differences", lines(bar), last)
    if seen.differences:
        waiting = f"; for {seen.waiting} of them a message still waits" if seen.waiting else ""
        raise UnrepairedError(f"{seen.differences} rows differ{waiting}; `relay replay` repairs drift")


def _line(difference: Difference) -> str:
    fields = f"  {', '.join(difference.fields)}" if difference.fields else ""
    return f"{difference.kind.value:<16} {difference.id}{fields}{'  (a message waits)' if difference.waiting else ''}"


@main.group()
def dead() -> None:
    """Dead letters: list, show, retry."""


@dead.command("list")
@prints
@pass_run
def dead_list(run: Run) -> None:
    """List every dead message with the reason it was given up for."""
    source = open_source(run.settings)
    items = (
        (f"{row['seq']}  {row['topic']}  {row['key']}  {row['last_error']}", row)
        for row in list_dead(source, Destination.GATEWAY)
    )
    run.printer.stream("dead", items, {})


@dead.command("show", context_settings={"ignore_unknown_options": True})
@click.argument("seq", type=SEQ)
@prints
@pass_run
def dead_show(run: Run, seq: int) -> None:
    """Show one message whole, its hashes shortened."""
    with reading(open_source(run.settings)) as connection:
        row = show_message(connection, seq)
    if row is None:
        raise UsageError(f"there is no message {seq}; see `relay dead list`")
    run.printer.record(row | {"payload": redact(str(row["payload"]))}, f"Message {seq}")


@dead.command("retry", context_settings={"ignore_unknown_options": True})
@click.argument("seqs", type=SEQ, nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Every dead message.")
@prints
@pass_run
def dead_retry(run: Run, seqs: tuple[int, ...], everything: bool) -> None:
    """Make dead messages pending again, each with all others of its key. A relay delivers them."""
    if bool(seqs) == everything:
        raise UsageError("name the messages to retry, or give --all")
    source = open_source(run.settings)
    if everything:
        run.printer.record({"retried": retry_all_dead(source, Destination.GATEWAY)}, "Dead letters")
        return
    revived = sum(retry_dead(source, seq) for seq in seqs)
    run.printer.record({"retried": revived}, "Dead letters")
    with reading(source) as connection:
        states = {seq: (show_message(connection, seq) or {}).get("state") for seq in seqs}
    missed = [str(seq) for seq, state in states.items() if not revived or state not in UNSETTLED]
    if missed:
        raise UnrepairedError(f"not dead: {', '.join(missed)}; see `relay dead list`")


@main.command()
@click.option("--retention", metavar="T", help="Keep what was settled within T, such as 7d. [env: RELAY_RETENTION]")
@prints
@pass_run
def prune(run: Run, retention: str | None) -> None:
    """Delete delivered and superseded messages older than the retention. Others are never deleted."""
    keep = run.settings.retention
    if retention is not None:
        keep = timedelta(milliseconds=run.now - parse_instant(retention, run.now))
        if keep < timedelta(0):
            raise UsageError(f"{retention} lies ahead; name a time in the past, such as 7d")
    run.printer.record({"pruned": prune_outbox(open_source(run.settings), Destination.GATEWAY, keep)}, "Prune")


@main.command()
@click.option("--listen", metavar="URL", required=True, help="unix:///path/to.sock; its folder must be yours alone.")
@click.option("--db", metavar="URL", required=True, help="The gateway's database; created or upgraded.")
def gateway(listen: str, db: str) -> None:
    """Serve the gateway's socket until stopped by SIGTERM or Ctrl-C."""
    serve_gateway(listen, db)


@main.command()
@prints
@pass_run
def demo(run: Run) -> None:
    """Tell the whole story on this machine in under 20 s, with real processes in a temporary folder."""
    run_demo(run.printer)


if __name__ == "__main__":
    main()
