"""`relay run`."""

import os

import click

from relay.commands.context import Run, pass_run
from relay.errors import InterruptedRelayError
from relay.left import refuse_what_is_left
from relay.open import open_gateway, open_source
from relay.systemd import systemd_of
from relay.worker import Worker


@click.command("run")
@click.option("--until-empty", is_flag=True, help="Drain what is due, then exit: with 1 if it is not empty.")
@click.option("--new-gateway", is_flag=True, help="From now on drain into this gateway; replay --all afterwards.")
@pass_run
def run_worker(run: Run, until_empty: bool, new_gateway: bool) -> None:
    """Drain the outbox into the gateway until stopped by SIGTERM or Ctrl-C."""
    source, gateway = open_source(run.settings), open_gateway(run.settings)
    try:
        worker = Worker(source, gateway, run.settings, new_gateway=new_gateway, systemd=systemd_of(os.environ))
        worker.run(until_empty=until_empty)
        if until_empty and worker.interrupted:
            raise InterruptedRelayError("stopped before the outbox was empty; run it again")
        if until_empty:
            refuse_what_is_left(source)
    finally:
        gateway.close()
        source.dispose()
