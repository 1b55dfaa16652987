"""Runs the benchmarks, all or the parts named, and prints one table. Linux only: it reads /proc.

`--write` keeps the figures of these parts in docs/, so that a long run can be made in several. `--quick` is for daily
use: fewer rounds and parts, and nothing written.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import partial

import click
import structlog

from bench import (
    bloat,
    creating,
    draining,
    enqueuing,
    idle,
    mirroring,
    postgresql,
    report,
    serving,
    stalling,
    verifying,
)
from bench.figure import Findings
from relay.console import Printer

PARTS: Mapping[str, Callable[..., Findings]] = {
    "draining": draining.measure,
    "million": draining.measure_many,
    "postgresql": postgresql.measure,
    "socket": serving.measure,
    "latency": mirroring.measure,
    "creating": creating.measure,
    "verify": verifying.measure,
    "idle": idle.measure,
    "stalling": stalling.measure,
    "bloat": bloat.measure,
}
QUICK: Mapping[str, Callable[..., Findings]] = {
    "draining": partial(draining.measure, rounds=3, with_peers=False),
    "socket": partial(serving.measure, rounds=1, requests=100),
    "latency": partial(mirroring.measure, invites=50, rounds=2),
    "creating": lambda: Findings(enqueuing.measure(calls=500)),
}


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(list(PARTS)), metavar="[PART]...")
@click.option("--quick", is_flag=True, help="Under two minutes in all.")
@click.option("--rounds", type=click.IntRange(1), help="Of the parts that have rounds; a million takes minutes each.")
@click.option("--write", is_flag=True, help="Keep what is found in docs/.")
def main(names: tuple[str, ...], quick: bool, rounds: int | None, write: bool) -> None:
    """Measures every PART, or those named."""
    if quick and (names or write):
        raise click.UsageError("--quick takes no parts, and its figures are not worth keeping")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if write:
        # Now, not after hours: what draws the picture is an extra.
        importlib.import_module("bench.plot")
    parts = QUICK if quick else PARTS
    findings: dict[str, Findings] = {}
    for name in names or parts:
        Printer(as_json=False).say(f"measuring: {name}")
        takes_rounds = "rounds" in inspect.signature(parts[name]).parameters
        findings[name] = parts[name](**({"rounds": rounds} if rounds and takes_rounds else {}))
        if write:
            report.write({name: findings[name]}, order=PARTS)
    report.show(findings)


main()
