"""What the benchmarks find: figures, each with its aim where it has one, and who took part in the races."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number, and what it should be at least or at most; no number where it could not be measured."""

    name: str
    number: float | None
    unit: str = ""
    at_least: float | None = None
    at_most: float | None = None
    beside: str = ""
    """In words, what the number comes from or was measured beside."""

    @property
    def measured(self) -> str:
        number = "not measured" if self.number is None else with_unit(self.number, self.unit)
        return f"{number} ({self.beside})" if self.beside else number

    @property
    def aim(self) -> str:
        limits = (("≥", self.at_least), ("≤", self.at_most))
        return ", ".join(f"{sign} {limit:,g}{_spaced(self.unit)}" for sign, limit in limits if limit is not None)

    @property
    def met(self) -> bool | None:
        """None where there is no aim, or no number to hold against it."""
        if self.number is None or (self.at_least is None and self.at_most is None):
            return None
        low, high = self.at_least, self.at_most
        return (low is None or self.number >= low) and (high is None or self.number <= high)


@dataclass(frozen=True, slots=True)
class Contestant:
    """How one did in a race: its median, lowest and highest rate; no rate but a problem where it could not."""

    backend: str
    waiting: int
    name: str
    rate: float | None = None
    to_bound: float | None = None
    lowest: float | None = None
    highest: float | None = None
    version: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """What one part of the benchmarks found."""

    figures: list[Figure]
    contestants: list[Contestant] = field(default_factory=list)


def with_unit(number: float, unit: str) -> str:
    return told(number) + _spaced(unit)


def told(number: float) -> str:
    """Three digits at least, so that what misses its aim by a hundredth shows it."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    if abs(number) >= 10:
        return f"{number:.1f}"
    return f"{number:.2f}" if abs(number) >= 1 else f"{number:.3f}"


def p50_p99(seconds: Sequence[float]) -> tuple[float, float]:
    """In milliseconds."""
    cuts = statistics.quantiles(seconds, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


def has_p99(seconds: Sequence[float]) -> bool:
    """Whether ten of them at least lie above it."""
    return len(seconds) >= 1_000


def both(seconds: Sequence[float]) -> str:
    p50, p99 = p50_p99(seconds)
    return f"{told(p50)} / {told(p99)} ms"


def latency(name: str, seconds: Sequence[float]) -> Figure:
    p50, p99 = p50_p99(seconds)
    beside = f"p99 {with_unit(p99, 'ms')}" if has_p99(seconds) else ""
    return Figure(f"{name}, p50", p50, "ms", beside=beside)


def to_other(name: str, ours: Sequence[float], other: Sequence[float], p50: float, p99: float) -> list[Figure]:
    """The ratio of each quantile to the other's, at most ``p50`` and ``p99``; of few samples no p99."""
    return [
        Figure(f"{name}, {which}", mine / theirs, at_most=most, beside=f"{told(mine)} to {told(theirs)} ms")
        for which, mine, theirs, most in zip(("p50", "p99"), p50_p99(ours), p50_p99(other), (p50, p99), strict=True)
        if which == "p50" or has_p99(ours)
    ]


def _spaced(unit: str) -> str:
    return unit if not unit or unit.startswith("/") else f" {unit}"
