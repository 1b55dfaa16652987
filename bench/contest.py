"""Several who do the same work, in turns: what one of them gets is told as a ratio to another in the same turn."""

import random
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

ROUNDS = 5


class DidNotFinishError(Exception):
    """One contestant's trouble, which is no reason to lose what the others did."""


@dataclass(frozen=True, slots=True)
class Run:
    """One contestant's turn; ``peak_mib`` where it ran in a process of its own that measured it."""

    rate: float
    peak_mib: float = 0.0


@dataclass(frozen=True, slots=True)
class Results:
    """The runs of each contestant, in the order of the rounds."""

    runs: dict[str, list[Run]]
    failed: dict[str, str] = field(default_factory=dict)
    """Who could not finish, and why; the others went on."""

    def rate(self, name: str) -> float:
        return statistics.median(run.rate for run in self.runs[name])

    def ratio(self, name: str, to: str) -> float:
        return statistics.median(
            one.rate / other.rate for one, other in zip(self.runs[name], self.runs[to], strict=True)
        )

    def lowest_and_highest(self, name: str) -> tuple[float, float]:
        rates = [run.rate for run in self.runs[name]]
        return min(rates), max(rates)

    def peak_mib(self, name: str) -> float:
        return max(run.peak_mib for run in self.runs[name])


def in_order_of(number: int, names: Iterable[str]) -> list[str]:
    """Another order in each round, and the same ones each time that this runs."""
    shuffled = list(names)
    random.Random(number).shuffle(shuffled)  # noqa: S311 - no secret
    return shuffled


def contest(contestants: Mapping[str, Callable[[], Run]], rounds: int = ROUNDS) -> Results:
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name in in_order_of(number, (name for name in contestants if name not in failed)):
            try:
                runs[name].append(contestants[name]())
            except DidNotFinishError as error:
                failed[name] = str(error)
    return Results({name: ran for name, ran in runs.items() if name not in failed}, failed)
