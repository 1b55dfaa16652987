"""How a command ends: done, or with one line on standard error and an exit code."""

import sys
from typing import Any

import click

from outbox.redact import printable
from relay import sigterm
from relay.errors import InterruptedRelayError, RelayError, UnreachableError
from relay.open import reaching
from relay.standard_error import never_wait_for_standard_error


class ReportingGroup(click.Group):
    """Every way in which a command can end badly is one line on stderr and the exit code that the README documents."""

    def main(self, *args: Any, **named: Any) -> Any:
        never_wait_for_standard_error()
        return super().main(*args, **named)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with sigterm.raising(), reaching("a database"):
                return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            if isinstance(stopped, sigterm.Terminated) and sigterm.exit_code(sys.argv[1:]) == sigterm.STOPPED:
                return None
            error: RelayError = InterruptedRelayError("interrupted; run it again")
        except MemoryError:
            error = UnreachableError("out of memory; nothing was lost, run it again with more")
        except RelayError as found:
            error = found
        click.echo(f"relay: {printable(str(error))}", err=True)
        raise click.exceptions.Exit(error.exit_code)
