"""`relay demo`."""

import click

from relay.commands.context import Run, pass_run, prints
from relay.demo import run_demo


@click.command()
@prints
@pass_run
def demo(run: Run) -> None:
    """Tell the whole story on this machine in under 20 s, with real processes in a temporary folder."""
    run_demo(run.printer)
