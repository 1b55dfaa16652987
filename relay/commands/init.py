"""`relay init`."""

import click

from relay.commands.context import Run, pass_run, prints
from relay.destinations.schemes import kind_of, shown
from relay.make_stores import init_stores, see_served


@click.command()
@click.option("--take-over", is_flag=True, help="Take the database from a gateway that never runs on it again.")
@click.option("--new-gateway", is_flag=True, help="Also where a store was before that is lost for good.")
@prints
@pass_run
def init(run: Run, take_over: bool, new_gateway: bool) -> None:
    """Create or upgrade both stores. Twice is harmless; no row is lost."""
    for warning in init_stores(run.settings, take_over=take_over, new_gateway=new_gateway):
        click.echo(f"relay: warning: {warning}", err=True)
    if not kind_of(run.settings.gateway).is_database:
        see_served(run.settings)
    run.printer.record(
        {"assistant_db": shown(run.settings.assistant_db), "gateway": shown(run.settings.gateway)},
        "Both stores are ready",
    )
