"""`relay dead list`, `show`, `retry`, `drop`."""

import getpass
import os
from collections.abc import Iterable
from typing import Any

import click
from sqlalchemy import Engine

from outbox.database.engine import reading
from outbox.dead import list_dead, retry_all_dead, retry_dead, show_message
from outbox.message import HIGHEST_SEQ, LOWEST_SEQ, Destination
from outbox.redact import redact
from relay.commands.context import Run, pass_run, prints
from relay.commands.summaries import SummarisingGroup
from relay.drop import drop
from relay.errors import UnrepairedError, UsageError
from relay.instants import with_iso_8601
from relay.open import open_source
from relay.redact_payload import redacted_payload

UNSETTLED = ("pending", "retrying")


class _Seq(click.IntRange):
    """Any number that a message can have, also below 0; whatever else begins with a hyphen is a mistyped option."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith("-") and not value[1:].isdigit():
            raise click.NoSuchOption(value, ctx=ctx)
        return super().convert(value, param, ctx)


SEQ = _Seq(min=LOWEST_SEQ, max=HIGHEST_SEQ)
# A number below 0 would be taken for an option.
NEGATIVE_TOO = {"ignore_unknown_options": True}


@click.group(cls=SummarisingGroup)
def dead() -> None:
    """Dead letters: list, show, retry, drop."""


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


@dead.command("show", context_settings=NEGATIVE_TOO)
@click.argument("seq", type=SEQ)
@prints
@pass_run
def dead_show(run: Run, seq: int) -> None:
    """Show one message whole, the token's hash shortened, and nothing of a code's."""
    source = open_source(run.settings)
    _refuse_unknown(run, source, [seq])
    with reading(source) as connection:
        row = show_message(connection, seq) or {}
    shown = with_iso_8601(_redacted(row)) | {"payload": redacted_payload(str(row["payload"]))}
    run.printer.record(shown, f"Message {seq}")


@dead.command("retry", context_settings=NEGATIVE_TOO)
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
    _refuse_unknown(run, source, seqs)
    revived = sum(retry_dead(source, seq) for seq in seqs)
    run.printer.record({"retried": revived}, "Dead letters")
    with reading(source) as connection:
        states = {seq: (show_message(connection, seq) or {}).get("state") for seq in seqs}
    missed = [str(seq) for seq, state in states.items() if not revived or state not in UNSETTLED]
    if missed:
        raise UnrepairedError(f"not dead: {', '.join(missed)}; see `{run.typed('dead', 'list')}`")


@dead.command("drop", context_settings=NEGATIVE_TOO)
@click.argument("seq", type=SEQ)
@click.option("--reason", metavar="TEXT", required=True, help="Why it need not be delivered; kept with the message.")
@prints
@pass_run
def dead_drop(run: Run, seq: int, reason: str) -> None:
    """Give up a dead message for good: of a row that is gone, or of a topic that nobody knows.

    Older messages of its key go with it. All are kept, with who dropped them and why.
    """
    if not reason.strip():
        raise UsageError("--reason must say why the message need not be delivered")
    source = open_source(run.settings)
    _refuse_unknown(run, source, [seq])
    done = drop(source, seq, _who(), reason)
    if done is None:
        raise UnrepairedError(f"not dead: {seq}; see `{run.typed('dead', 'list')}`")
    run.printer.record({"dropped": done.dropped, "enqueued": done.enqueued}, "Dead letters")
    if done.row_is_there and not done.enqueued:
        look, again = run.typed("verify", "--id", done.key), run.typed("replay", "--id", done.key)
        run.printer.warn(f"invite {done.key} is still there: `{look}` compares it, `{again}` enqueues it as it is")


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def _refuse_unknown(run: Run, source: Engine, seqs: Iterable[int]) -> None:
    with reading(source) as connection:
        unknown = [str(seq) for seq in seqs if show_message(connection, seq) is None]
    if unknown:
        raise UsageError(f"there is no message {', '.join(unknown)}; see `{run.typed('dead', 'list')}`")


def _redacted(row: dict[str, Any]) -> dict[str, Any]:
    """Earlier releases shortened the hashes in the reasons that they stored."""
    return row if row["last_error"] is None else row | {"last_error": redact(str(row["last_error"]))}
