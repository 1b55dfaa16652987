"""What was found, kept as numbers by part; the table, the page and the picture are made from them."""

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.contest import ROUNDS
from bench.draining import FEW
from bench.figure import DATABASES, Contestant, Figure, Findings, told
from bench.peer import LIMIT_SECONDS, PEERS
from bench.place import place
from bench.stage import opened
from outbox import reading
from outbox.sqlite import sqlite_module

DOCS = Path("docs")
_OURS = {
    "relay": "this product, what `relay run --until-empty` does",
    "bound": "the shortest loop written by hand: reads a batch, one upsert, one update, each committed. "
    "No lease, no validation, no merge, no order",
}


def show(findings: Mapping[str, Findings]) -> None:
    table = Table(title="Figures", title_justify="left")
    for heading in ("figure", "measured", "aim", "met"):
        table.add_column(heading, overflow="fold")
    for row in _rows(findings):
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)


def write(findings: Mapping[str, Findings], order: Iterable[str], folder: Path = DOCS) -> None:
    """Replaces these parts among those found before, and makes the page and the picture anew."""
    # Imported here: it is an extra.
    from bench.plot import draw

    numbers = folder / "benchmarks.json"
    found = _read(numbers) | dict(findings)
    names = list(order)
    kept = {name: found[name] for name in names if name in found}
    machine = _machine()
    stored = {"machine": machine, "parts": {name: asdict(one) for name, one in kept.items()}}
    numbers.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    (folder / "benchmarks.md").write_text(_page(machine, kept, [name for name in names if name not in found]))
    draw([one for one in _contestants(kept) if one.waiting == FEW], folder / "benchmarks.svg")


def _read(numbers: Path) -> dict[str, Findings]:
    if not numbers.exists():
        return {}
    parts = json.loads(numbers.read_text())["parts"]
    return {
        name: Findings(
            [Figure(**figure) for figure in part["figures"]], [Contestant(**one) for one in part["contestants"]]
        )
        for name, part in parts.items()
    }


def _machine() -> dict[str, str]:
    with place("postgresql") as where, opened(where.empty()) as at, reading(at.source) as connection:
        server = connection.exec_driver_sql("SHOW server_version").scalar_one()
    return {
        "cores": str(os.cpu_count()),
        "Python": platform.python_version(),
        "SQLite": sqlite_module().sqlite_version,
        "PostgreSQL": str(server),
    }


def _page(machine: Mapping[str, str], findings: Mapping[str, Findings], missing: list[str]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`. Everything in one race or ratio ran in turns on the same machine, data and disk; a "
        f"rate is the median of {ROUNDS} rounds, a ratio that of each round's ratio. The relay and the server are "
        "real processes, every commit is on disk (`synchronous=FULL`; fsync on).",
        "",
        ", ".join(f"{name}: {value}" for name, value in machine.items()) + ".",
        "",
        *_table(("figure", "measured", "aim", "met"), _rows(findings)),
    ]
    if missing:
        lines += ["", f"Not in this table yet, `python -m bench --write {' '.join(missing)}` adds them."]
    contestants = _contestants(findings)
    for backend in DATABASES:
        if any(one.backend == backend for one in contestants):
            lines += ["", *_race(backend, [one for one in contestants if one.backend == backend])]
    return "\n".join(lines) + "\n"


def _race(backend: str, contestants: list[Contestant]) -> list[str]:
    fastest_first = sorted(contestants, key=lambda one: (one.waiting, -(one.rate or 0)))
    rows = [
        (f"{one.waiting:,}", one.name, "could not be installed", "")
        if one.rate is None
        else (f"{one.waiting:,}", one.name, f"{told(one.rate)}/s", "" if one.to_bound is None else told(one.to_bound))
        for one in fastest_first
    ]
    how = list(_OURS.items())
    how += [(peer.name, peer.how) for peer in PEERS if peer.backend == backend]
    return [
        f"## Draining, {DATABASES[backend]}",
        "",
        *_table(("waiting", "who", "rate", "ratio to the bound"), rows),
        "",
        f"The peers upsert plainly, without validation, merge, lease or order of an invite's messages. They run at "
        f"{FEW:,} waiting messages only. "
        f"A peer is stopped after {LIMIT_SECONDS:.0f} s; its rate is what it delivered until then.",
        "",
        *(f"- **{name}**: {words}." for name, words in how),
    ]


def _contestants(findings: Mapping[str, Findings]) -> list[Contestant]:
    return [one for found in findings.values() for one in found.contestants]


def _rows(findings: Mapping[str, Findings]) -> list[tuple[str, ...]]:
    met = {None: "", True: "yes", False: "no"}
    figures = [figure for found in findings.values() for figure in found.figures]
    return [(one.name, one.measured, one.aim, met[one.met]) for one in figures]


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [headings, ("---",) * len(headings), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
