"""Several who do the same work, in turns: what one of them gets is told as a ratio to another in the same turn."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant's turn; ``peak_mib`` where it ran in a process of its own that measured it."""

    rate: float
    peak_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Results:
    """The runs of each contestant, in the order of the rounds."""

    runs: dict[str, list[Run]]

    def rate(self, name: str) -> float:
        return statistics.median(run.rate for run in self.runs[name])

    def ratio(self, name: str, to: str) -> float:
        return statistics.median(
            one.rate / other.rate for one, other in zip(self.runs[name], self.runs[to], strict=True)
        )

    def peak_mib(self, name: str) -> float:
        return max(run.peak_mib for run in self.runs[name])


def contest(contestants: Mapping[str, Callable[[], Run]], rounds: int = ROUNDS) -> Results:
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for number in range(rounds):
        names = list(contestants)
        # Each round begins with another one, so that nobody always comes after the same.
        for name in names[number % len(names) :] + names[: number % len(names)]:
            runs[name].append(contestants[name]())
    return Results(runs)
