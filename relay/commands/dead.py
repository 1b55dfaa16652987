"""`relay dead list`, `show`, `retry`."""

from typing import Any

import click

from outbox.dead import list_dead, retry_all_dead, retry_dead, show_message
from outbox.engine import reading
from outbox.message import Destination
from outbox.redact import redact
from relay.commands.context import Run, pass_run, prints
from relay.commands.summaries import SummarisingGroup
from relay.errors import UnrepairedError, UsageError
from relay.open import open_source
from relay.redact_payload import redacted_payload

UNSETTLED = ("pending", "retrying")
SEQ = click.IntRange(min=-(2**63), max=2**63 - 1)


@click.group(cls=SummarisingGroup)
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
        for row in map(_redacted, list_dead(source, Destination.GATEWAY))
    )
    run.printer.stream("dead", items, {})


@dead.command("show", context_settings={"ignore_unknown_options": True})
@click.argument("seq", type=SEQ)
@prints
@pass_run
def dead_show(run: Run, seq: int) -> None:
    """Show one message whole, the token's hash shortened, and nothing of a code's."""
    with reading(open_source(run.settings)) as connection:
        row = show_message(connection, seq)
    if row is None:
        raise UsageError(f"there is no message {seq}; see `relay dead list`")
    run.printer.record(_redacted(row) | {"payload": redacted_payload(str(row["payload"]))}, f"Message {seq}")


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


def _redacted(row: dict[str, Any]) -> dict[str, Any]:
    """Earlier releases shortened the hashes in the reasons that they stored."""
    return row if row["last_error"] is None else row | {"last_error": redact(str(row["last_error"]))}
