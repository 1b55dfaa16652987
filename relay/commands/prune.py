"""`relay prune`."""

from datetime import timedelta

import click

from outbox.message import Destination
from outbox.prune import prune as prune_outbox
from relay.commands.context import Run, pass_run, prints
from relay.errors import UsageError
from relay.instants import parse_instant
from relay.open import open_source


@click.command()
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
