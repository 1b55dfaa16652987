"""What comparing two stores has found: each difference, and the counts of all."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from relay.cures import MOST_NAMED, Cure, Kind, Typed, next_step

_UNDELIVERED = (
    "delivering the row would make it equal; what keeps it from that is above, or it changed since: run it again"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """One row on which the stores disagree, and what makes them agree.

    ``waiting``: a message for it is still in the outbox. ``heals``: that message holds the row as it is, and makes both
    sides equal. An ``id`` that is no plain text is shown as SQLite writes it, and is itself among the ``fields``.
    """

    id: str
    kind: Kind
    fields: tuple[str, ...]
    waiting: bool
    heals: bool
    cure: Cure

    @property
    def is_open(self) -> bool:
        """Whether somebody has to do something."""
        return not self.heals and self.cure is not Cure.NONE

    @property
    def can_be_named(self) -> bool:
        """Whether a command that names its id, typed as it is printed, means this row."""
        return "id" not in self.fields and self.id.isprintable()


@dataclass(slots=True)
class Comparison:
    """What a pass has seen so far."""

    assistant_rows: int = 0
    gateway_rows: int = 0
    waiting: int = 0
    heals: int = 0
    open: int = 0
    by_kind: dict[str, int] = field(default_factory=lambda: {kind.value: 0 for kind in Kind})
    open_by_cure: Counter[tuple[Cure, Kind]] = field(default_factory=Counter)
    named: dict[Cure, list[str]] = field(default_factory=lambda: {cure: [] for cure in Cure})
    """Of the open ones the first few ids, by cure."""

    def count(self, found: Iterable["Difference"]) -> Iterator["Difference"]:
        for difference in found:
            self.by_kind[difference.kind.value] += 1
            self.waiting += difference.waiting
            self.heals += difference.heals
            if difference.is_open:
                self.open += 1
                self.open_by_cure[difference.cure, difference.kind] += 1
                if difference.can_be_named and len(self.named[difference.cure]) < MOST_NAMED:
                    self.named[difference.cure].append(difference.id)
            yield difference

    @property
    def differences(self) -> int:
        return sum(self.by_kind.values())

    @property
    def equal(self) -> int:
        """Rows of the assistant's store that the gateway has just so."""
        return self.assistant_rows - self.differences + self.by_kind[Kind.EXTRA]

    def after_closing(self, count: int, again: "Comparison") -> None:
        """Counts ``count`` extra rows, all that can be named, as they were found ``again``."""
        extra = (Cure.CLOSE_EXTRA, Kind.EXTRA)
        self.by_kind[Kind.EXTRA] -= count
        self.open_by_cure[extra] -= count
        self.open += again.open - count
        self.heals += again.heals
        self.named[Cure.CLOSE_EXTRA] = []
        for name, number in again.by_kind.items():
            self.by_kind[name] += number
        self.open_by_cure.update(again.open_by_cure)
        for cure, ids in again.named.items():
            self.named[cure] += ids[: MOST_NAMED - len(self.named[cure])]

    def next_steps(self, typed: Typed, *, replayed: bool = False) -> list[str]:
        """For each cure: how many rows want it, of which kinds, and what to do, also where they were just replayed."""
        steps = []
        for cure in Cure:
            kinds = {kind.value: number for (of, kind), number in self.open_by_cure.items() if of is cure and number}
            if kinds:
                many = " and ".join(f"{number} {kind}" for kind, number in kinds.items())
                what = _UNDELIVERED if replayed and cure is Cure.REPLAY else None
                steps.append(f"{many}: {what or next_step(cure, self.named[cure], sum(kinds.values()), typed)}")
        return steps

    def as_dict(self) -> dict[str, Any]:
        return {
            "assistant_rows": self.assistant_rows,
            "gateway_rows": self.gateway_rows,
            "waiting": self.waiting,
            "heals": self.heals,
            "open": self.open,
            "by_kind": self.by_kind,
        }
