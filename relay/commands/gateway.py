"""`relay gateway`."""

import os

import click

from relay.serve_gateway import serve_gateway
from relay.systemd import systemd_of


@click.command()
@click.option("--listen", metavar="URL", required=True, help="unix:///path/to.sock; its folder must be yours alone.")
@click.option("--db", metavar="URL", required=True, help="The gateway's database; created or upgraded.")
def gateway(listen: str, db: str) -> None:
    """Serve the gateway's socket until stopped by SIGTERM or Ctrl-C."""
    serve_gateway(listen, db, systemd_of(os.environ))
