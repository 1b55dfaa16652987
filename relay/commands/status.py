"""`relay status`."""

from collections.abc import Sequence

import click

from outbox.leases import Relay
from relay.commands.context import Run, pass_run, prints
from relay.introduction import known_as
from relay.open import open_gateway, open_source, storage_warnings
from relay.status import read_status, relay_line

MOST_RELAYS_SHOWN = 20


@click.command()
@prints
@pass_run
def status(run: Run) -> None:
    """Say what waits, since when, who drains it, and whether the gateway answers (exit code 4 if not)."""
    gateway = open_gateway(run.settings)
    source, url = open_source(run.settings), known_as(run.settings.gateway)
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
