"""`relay status`."""

from collections.abc import Sequence

import click

from outbox.leases import Relay
from relay.commands.context import Run, pass_run, prints
from relay.instants import in_iso_8601
from relay.open import open_gateway, open_source, storage_warnings
from relay.status import Status, read_status
from relay.status_warnings import relay_line

MOST_RELAYS_SHOWN = 20


@click.command()
@prints
@pass_run
def status(run: Run) -> None:
    """Say what waits and why, who drains it and how they see the gateway, and what needs a person.

    Exit code 4 where the gateway is down, or 1 where anything needs a person.
    """
    gateway = open_gateway(run.settings)
    source, url = open_source(run.settings), run.settings.gateway
    try:
        found = read_status(source, gateway, url, storage_warnings(run.settings))
    finally:
        gateway.close()
        source.dispose()
    run.printer.record(found.as_dict() if run.printer.as_json else _for_people(found), "Outbox")
    for warning in found.warnings:
        run.printer.warn(warning)
    click.get_current_context().exit(found.exit_code)


def _for_people(found: Status) -> dict[str, object]:
    """What is wrong stands below, among the warnings."""
    return {
        "assistant_db": found.assistant_db,
        "pending": found.pending,
        "retrying": found.retrying,
        "reasons": _reason_lines(found) or None,
        "dead": found.dead,
        "delivered": found.delivered,
        "superseded": found.superseded,
        "oldest_unsettled_age_seconds": found.oldest_unsettled_age_seconds,
        "live_relays": found.live_relays,
        "relays": _relay_lines(found.relays) or None,
        "gateway_url": found.gateway_url,
        "gateway": found.gateway,
        "gateway_problem": found.gateway_problem,
    }


def _reason_lines(found: Status) -> list[str]:
    lines = []
    for one in found.retry_reasons:
        due = one.next_try_at is None or one.next_try_at <= found.looked_at
        when = "due now" if due else f"next try at {in_iso_8601(one.next_try_at)}"
        lines.append(f"{one.messages}, such as message {one.seq}, {when}: {one.reason or 'no reason was kept'}")
    more = found.retrying - sum(one.messages for one in found.retry_reasons)
    return [*lines, f"and {more} more"] if more > 0 else lines


def _relay_lines(relays: Sequence[Relay]) -> list[str]:
    lines = [relay_line(one) for one in relays[:MOST_RELAYS_SHOWN]]
    more = len(relays) - len(lines)
    return [*lines, f"and {more} more"] if more else lines
