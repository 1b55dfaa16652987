"""Declarations of any shape, rows that fit them, and merging that tells a refusal from a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from hypothesis import strategies as st

from outbox.mirroring.declaration import Declaration, Follows, Immutable, Larger, Owned, Ranked, Rule, Shared, Tombstone
from outbox.mirroring.declaration import shared as shared_rule
from outbox.mirroring.errors import UnmergeableError
from outbox.mirroring.merge import Merge, Row

RANKS = ("open", "shut", "gone")
HERE = "here"


def declared(**rules: Rule) -> Declaration:
    """Of a thing, by its ``id``."""
    return Declaration("thing", "id", tuple(rules.items()))


def merge_of(**rules: Rule) -> Merge:
    """Of rows with the id first, and then the fields in the order given."""
    return Merge(declared(**rules), ["id", *rules])


def merged(merge: Merge, *rows: Row | None) -> Row | None:
    """All of them from left to right; None where two of them cannot be merged, or one is None."""
    return reduce(lambda one, other: _both(merge, one, other), rows)


def _both(merge: Merge, one: Row | None, other: Row | None) -> Row | None:
    try:
        return None if one is None or other is None else merge(one, other)
    except UnmergeableError:
        return None


@dataclass(frozen=True)
class Case:
    declaration: Declaration
    columns: Sequence[str]
    rows: list[Row]

    def merge(self, at: str | None = None) -> Merge:
        return Merge(self.declaration, self.columns, at=at)


@st.composite
def cases(draw: st.DrawFn, count: int) -> Case:
    """A declaration, and so many rows of one key; the columns stand in an order of their own."""
    declaration = draw(declarations())
    rules: dict[str, Rule] = dict(declaration.fields)
    columns = draw(st.permutations([declaration.key, *rules]))
    one_row = st.tuples(*(st.just("k") if name == "id" else _values(shared_rule(rules[name])) for name in columns))
    return Case(declaration, columns, draw(st.lists(one_row, min_size=count, max_size=count)))


@st.composite
def declarations(draw: st.DrawFn) -> Declaration:
    fields: dict[str, Rule] = {}
    for number in range(draw(st.integers(0, 2))):
        fields |= _owned(draw, _group(draw, f"group_{number}"))
    for number in range(draw(st.integers(0, 2))):
        fields |= _owned(draw, _origin(draw, f"origin_{number}"))
    for name, rule in (("status", Ranked(RANKS)), ("deleted_at", Tombstone())):
        if draw(st.booleans()):
            fields |= _owned(draw, {name: rule})
    return Declaration("thing", "id", tuple(draw(st.permutations(list(fields.items())))))


def _group(draw: st.DrawFn, leader: str) -> dict[str, Shared]:
    followers = range(draw(st.integers(0, 3)))
    led: dict[str, Shared] = {f"{leader}_{number}": Follows(leader) for number in followers}
    return led | {leader: Larger(draw(st.booleans()))}


def _origin(draw: st.DrawFn, name: str) -> dict[str, Shared]:
    marker = draw(st.sampled_from([None, name]))
    return {one: Immutable(marker) for one in (name, f"{name}_0", f"{name}_1")}


def _owned(draw: st.DrawFn, rules: dict[str, Shared]) -> dict[str, Rule]:
    by = draw(st.sampled_from([None, HERE, "there"]))
    return {name: rule if by is None else Owned(by, rule) for name, rule in rules.items()}


def _values(rule: Shared) -> st.SearchStrategy[Any]:
    match rule:
        case Ranked(ranks):
            return st.sampled_from(ranks)
        case Larger(or_null=False):
            return st.integers(0, 2)
        case Immutable():
            # Seldom two that differ, or hardly any rows could be merged.
            return st.sampled_from([None, 1, 1, 1, 2])
        case _:
            return st.sampled_from([None, 0, 1])
