"""`relay verify`."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import click
from sqlalchemy import Engine

from outbox.counted import counted
from outbox.database.driver import is_plain_text
from relay.close_extra import Closed, close_extra
from relay.commands.context import Run, pass_run, prints
from relay.compare import compare, compare_ids, compare_known
from relay.console import Bar
from relay.cures import Cure
from relay.destinations.schemes import known_as
from relay.differences import Comparison, Difference
from relay.errors import UnrepairedError, UsageError
from relay.id_pages import IdPages
from relay.instants import parse_instant
from relay.open import open_mirror, open_mirror_to_write, open_source
from relay.urls import reaching


@dataclass(slots=True)
class _Verifying:
    """Both sides, what was found, and what was done about it."""

    run: Run
    source: Engine
    mirror: Engine
    seen: Comparison = field(default_factory=Comparison)
    extra: IdPages = field(default_factory=IdPages)
    """What can be revoked at the gateway."""
    closed: Closed | None = None
    last: dict[str, Any] = field(default_factory=dict)
    """What is printed below the differences."""


@click.command()
@click.option("--since", metavar="T", help="Only rows changed on either side at T or later.")
@click.option("--id", "ids", metavar="ID", multiple=True, help="Only this invite; may be given several times.")
@click.option("--strict", is_flag=True, help="Exit with 1 for every difference, also those that heal by themselves.")
@click.option("--close-extra", "closes", is_flag=True, help="Revoke at the gateway what only the gateway has.")
@prints
@pass_run
def verify(run: Run, since: str | None, ids: tuple[str, ...], strict: bool, closes: bool) -> None:
    """Compare both stores row by row and name every difference by kind, with what makes them equal."""
    if ids and since is not None:
        raise UsageError("give --id or --since, not both")
    start = None if since is None else parse_instant(since, run.now)
    source = open_source(run.settings)
    mirror = (open_mirror_to_write if closes else open_mirror)(run.settings, source)
    at = _Verifying(run, source, mirror)

    def lines(bar: Bar) -> Iterator[tuple[str, dict[str, Any]]]:
        if ids:
            found = compare_ids(at.source, at.mirror, list(ids), at.seen)
        else:
            found = compare(at.source, at.mirror, at.seen, since=start, on_page=lambda: bar.at(at.seen.assistant_rows))
        for difference in found:
            if difference.cure is Cure.CLOSE_EXTRA and is_plain_text(difference.id):
                at.extra.add([difference.id])
            yield _line(difference), asdict(difference)
        if closes and len(at.extra):
            _close(at)
        at.last.update(_summary(at))

    with reaching("a store"), run.printer.bar("compared") as bar:
        run.printer.stream("differences", lines(bar), at.last)
    _end(at, strict)


def _close(at: _Verifying) -> None:
    """Revokes, and compares those rows again: what was revoked lets nobody in any more."""
    at.closed = close_extra(at.source, at.mirror, known_as(at.run.settings.gateway), at.extra)
    again = Comparison()
    for page in at.extra:
        for _ in compare_known(at.source, at.mirror, page, again):
            pass
    at.seen.after_closing(len(at.extra), again)


def _summary(at: _Verifying) -> dict[str, Any]:
    found = at.seen.as_dict() | {"differences_found": at.seen.differences}
    if at.closed is not None:
        found |= {"revoked_at_gateway": at.closed.revoked}
        for id_, reason in at.closed.refused.items():
            at.run.printer.warn(f"invite {id_} could not be revoked at the gateway: {reason}")
    return found | ({"next_steps": at.seen.next_steps(at.run.typed)} if at.run.printer.as_json else {})


def _end(at: _Verifying, strict: bool) -> None:
    seen = at.seen
    if not (seen.differences if strict else seen.open):
        return
    parts = [counted(seen.differences, "row differs", "rows differ")]
    if seen.heals:
        parts.append(
            f"for {seen.heals} of them a message still waits, which makes {'it' if seen.heals == 1 else 'them'} equal"
        )
    raise UnrepairedError("; ".join(parts + seen.next_steps(at.run.typed)))


def _line(difference: Difference) -> str:
    fields = f"  {', '.join(difference.fields)}" if difference.fields else ""
    return f"{difference.kind.value:<16} {difference.id}{fields}{_stands(difference)}"


def _stands(difference: Difference) -> str:
    if difference.cure is Cure.NONE:
        return "  (closed there)"
    if difference.heals:
        return "  (a message waits)"
    return "  (a message waits, which does not make them equal)" if difference.waiting else ""
