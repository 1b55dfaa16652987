"""What was found, kept as numbers by part; the table, the page and the picture are made from them."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
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
from outbox.clock import now_ms
from outbox.database.sqlite import sqlite_module

DOCS = Path("docs")
_OURS = {
    "relay": "this product, what `relay run --until-empty` does",
    "bound": "the shortest loop written by hand: reads 500, upserts them (SQLite: an executemany; PostgreSQL: one "
    "json_to_recordset), updates them, each committed, at the databases' own settings. No lease, no validation, no "
    "merge, no order",
    "bound, tuned": "the same with the relay's cache and longer log",
}
_READ_WITH = (
    "The relay drains what its store makes, ids that grow with time, into the gateway's table as it makes it, with "
    "indexes that leave out empty codes. The bound and the peers drain random ids into the table as the first pull "
    "request had it, with whole indexes. All but the bound and huey lease or claim: the peers each message, in its "
    "row; the relay shards. Only the relay validates, merges and keeps an invite's messages in order."
)

Part = tuple[Findings, dict[str, str]]
"""What was found, and on what."""


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
    circumstances = _circumstances()
    found = _read(numbers) | {name: (one, circumstances) for name, one in findings.items()}
    names = list(order)
    kept = {name: found[name] for name in names if name in found}
    stored = {name: {"on": on} | asdict(one) for name, (one, on) in kept.items()}
    numbers.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
    (folder / "benchmarks.md").write_text(_page(kept, [name for name in names if name not in found]))
    draw(_contestants(one for one, _ in kept.values()), FEW, folder / "benchmarks.svg")


def _read(numbers: Path) -> dict[str, Part]:
    if not numbers.exists():
        return {}
    return {
        name: (
            Findings(
                [Figure(**figure) for figure in part["figures"]], [Contestant(**one) for one in part["contestants"]]
            ),
            part["on"],
        )
        for name, part in json.loads(numbers.read_text()).items()
    }


def _circumstances() -> dict[str, str]:
    with place("postgresql") as where:
        disk = _output("stat", "--file-system", "--format=%T", str(where.folder))
        with opened(where.empty()) as at, reading(at.source) as connection:
            server = connection.exec_driver_sql("SHOW server_version").scalar_one()
    return {
        "day": datetime.fromtimestamp(now_ms() / 1000, UTC).date().isoformat(),
        "commit": _output("git", "rev-parse", "--short", "HEAD"),
        "cores": str(os.cpu_count()),
        "disk": disk,
        "Python": platform.python_version(),
        "SQLite": sqlite_module().sqlite_version,
        "PostgreSQL": str(server),
    }


def _output(*command: str) -> str:
    """What it prints in a line; "unknown" where it is not there, or fails."""
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _page(parts: Mapping[str, Part], missing: list[str]) -> str:
    findings = {name: one for name, (one, _) in parts.items()}
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Everything in one race or ratio ran in turns on one machine and disk. A rate is the "
        f"median of the rounds ({ROUNDS} unless said otherwise), a ratio the median of each round's ratio, so not the "
        "quotient of the two rates beside it. The relay and the servers are real processes, every commit is on disk "
        "(`synchronous=FULL`; fsync on).",
        "",
        *_table(("figure", "measured", "aim", "met"), _rows(findings)),
        "",
        *_table(("part", *next(iter(parts.values()))[1]), [(name, *on.values()) for name, (_, on) in parts.items()]),
    ]
    if missing:
        lines += ["", f"Not measured yet; `.venv/bin/python -m bench --write {' '.join(missing)}` adds them."]
    contestants = _contestants(findings.values())
    for backend in DATABASES:
        if any(one.backend == backend for one in contestants):
            lines += ["", *_race(backend, [one for one in contestants if one.backend == backend])]
    return "\n".join(lines) + "\n"


def _race(backend: str, contestants: list[Contestant]) -> list[str]:
    fastest_first = sorted(contestants, key=lambda one: (one.waiting, -(one.rate or 0)))
    here = {one.name for one in contestants}
    how = [(name, words) for name, words in _OURS.items() if name in here]
    how += [(peer.name, peer.how) for peer in PEERS if peer.backend == backend]
    return [
        f"## Draining, {DATABASES[backend]}",
        "",
        *_table(("waiting", "who", "rate", "lowest to highest", "ratio to the bound"), map(_standing, fastest_first)),
        "",
        f"{_READ_WITH} The peers run at {FEW:,} waiting messages only. "
        f"A peer is stopped after {LIMIT_SECONDS:.0f} s; its rate is what it delivered until then.",
        "",
        *(f"- **{name}**: {words}." for name, words in how),
    ]


def _standing(one: Contestant) -> tuple[str, ...]:
    name = f"{one.name} ({one.version})" if one.version else one.name
    if one.rate is None:
        return f"{one.waiting:,}", name, f"none: {one.problem}", "", ""
    spread = "" if one.lowest is None or one.highest is None else f"{told(one.lowest)} to {told(one.highest)}"
    return f"{one.waiting:,}", name, f"{told(one.rate)}/s", spread, "" if one.to_bound is None else told(one.to_bound)


def _contestants(findings: Iterable[Findings]) -> list[Contestant]:
    return [one for found in findings for one in found.contestants]


def _rows(findings: Mapping[str, Findings]) -> list[tuple[str, ...]]:
    met = {None: "", True: "yes", False: "no"}
    figures = [figure for found in findings.values() for figure in found.figures]
    return [(one.name, one.measured, one.aim, met[one.met]) for one in figures]


def _table(headings: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = [headings, ("---",) * len(headings), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]
