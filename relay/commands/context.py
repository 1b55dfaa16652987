"""What every command has: its settings, its printer, the moment it started, and `--json`."""

from collections.abc import Callable

import click

from outbox.clock import now_ms
from relay.console import Printer
from relay.settings import Settings


class Run:
    """What one command runs with: settings, read once, and the moment it started, to which relative times refer."""

    def __init__(self, settings: Settings, as_json: bool) -> None:
        self.settings = settings
        self.printer = Printer(as_json)
        self.now = now_ms()


def prints(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command ``--json``; it can stand before the command's name as well."""

    def switch(ctx: click.Context, _option: click.Parameter, chosen: bool) -> None:
        run = ctx.find_object(Run)
        if chosen and run is not None:
            run.printer.as_json = True

    return click.option("--json", is_flag=True, expose_value=False, callback=switch, help="Print one JSON document.")(
        command
    )


pass_run = click.make_pass_decorator(Run)
