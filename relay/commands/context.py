"""What every command has: its settings, its printer, the moment it started, and `--json`."""

import shlex
from collections.abc import Callable, Mapping

import click

from outbox.clock import now_ms
from relay.console import Printer
from relay.destinations.schemes import shown
from relay.settings import Settings


class Run:
    """What one command runs with: settings, read once, and the moment it started, to which relative times refer."""

    def __init__(self, settings: Settings, as_json: bool, given: Mapping[str, str]) -> None:
        self.settings = settings
        self._given = given
        self.printer = Printer(as_json)
        self.now = now_ms()

    def typed(self, *words: str) -> str:
        """Another command on the same stores, as it is to be typed: with the URLs that this one was given."""
        given = (word for option, url in self._given.items() for word in (option, shown(url)))
        return shlex.join(("relay", *given, *words))


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
