"""`relay verify`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import click

from relay.commands.context import Run, pass_run, prints
from relay.compare import Comparison, Difference, compare, compare_ids
from relay.console import Bar
from relay.errors import UnrepairedError, UsageError
from relay.instants import parse_instant
from relay.open import open_mirror, open_source
from relay.urls import reaching


@click.command()
@click.option("--since", metavar="T", help="Only rows changed on either side at T or later.")
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only this invite; may be given several times.")
@prints
@pass_run
def verify(run: Run, since: str | None, ids: tuple[str, ...]) -> None:
    """Compare both stores row by row and name every difference by kind."""
    if ids and since is not None:
        raise UsageError("give --id or --since, not both")
    start = None if since is None else parse_instant(since, run.now)
    source = open_source(run.settings)
    mirror = open_mirror(run.settings, source)
    seen = Comparison()
    last: dict[str, Any] = {}

    def lines(bar: Bar) -> Iterator[tuple[str, dict[str, Any]]]:
        if ids:
            found = compare_ids(source, mirror, list(ids), seen)
        else:
            found = compare(source, mirror, seen, since=start, on_page=lambda: bar.at(seen.assistant_rows))
        for difference in found:
            yield _line(difference), asdict(difference)
        last.update(asdict(seen) | {"differences_found": seen.differences})

    with reaching("a store"), run.printer.bar("compared") as bar:
        run.printer.stream("differences", lines(bar), last)
    if seen.differences:
        waiting = f"; for {seen.waiting} of them a message still waits" if seen.waiting else ""
        raise UnrepairedError(f"{seen.differences} rows differ{waiting}; `relay replay` repairs drift")


def _line(difference: Difference) -> str:
    fields = f"  {', '.join(difference.fields)}" if difference.fields else ""
    return f"{difference.kind.value:<16} {difference.id}{fields}{'  (a message waits)' if difference.waiting else ''}"
