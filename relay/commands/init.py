"""`relay init`."""

import click

from relay.commands.context import Run, pass_run, prints
from relay.open import init_stores, shown


@click.command()
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
