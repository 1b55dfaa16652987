"""How a command ends: done, or with one line on standard error and an exit code."""

import sys
from typing import Any

import click

from outbox.redact import printable
from relay import sigterm
from relay.commands.summaries import SummarisingGroup
from relay.errors import InterruptedRelayError, ReaderGoneError, RelayError, UnreachableError
from relay.standard_error import never_wait_for_standard_error
from relay.standard_output import drop_the_rest, own_standard_output
from relay.urls import reaching


class ReportingGroup(SummarisingGroup):
    """Every way in which a command can end badly is one line on stderr and the exit code that the README documents."""

    def main(self, *args: Any, **named: Any) -> Any:
        own_standard_output()
        never_wait_for_standard_error()
        try:
            return super().main(*args, **named)
        except SystemExit as ended:
            # What is still buffered meets a full disk only now; `--help` and `--version` have printed before `invoke`.
            code = _written_out()
            raise SystemExit(code if code and ended.code in (0, 1, None) else ended.code) from None
        except RelayError as error:
            raise SystemExit(_ended_by(error)) from None

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with sigterm.raising(), reaching("a database"):
                return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            drop_the_rest()
            if isinstance(stopped, sigterm.Terminated) and sigterm.exit_code(sys.argv[1:]) == sigterm.STOPPED:
                return None
            error: RelayError = InterruptedRelayError("interrupted; run it again")
        except MemoryError:
            error = UnreachableError("out of memory; nothing was lost, run it again with more")
        except RelayError as found:
            error = found
        raise click.exceptions.Exit(_ended_by(error))


def _ended_by(error: RelayError) -> int:
    if not isinstance(error, ReaderGoneError):
        click.echo(f"relay: {printable(str(error))}", err=True)
    return error.exit_code


def _written_out() -> int:
    try:
        sys.stdout.flush()
    except RelayError as error:
        return _ended_by(error)
    return 0
