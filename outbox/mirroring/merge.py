"""Merging two states of a row as its declaration says. Pure; compiled once, as thousands of rows a second need it.

Without fields that the merging side owns it is commutative, associative and idempotent for rows of the right types.
With them the stored row stands apart from those that arrive, which may still do so in any order and any number of
times. A refusal, too, comes in every order.
"""

from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias

from outbox.mirroring.declaration import Declaration, Follows, Immutable, Larger, Ranked, Rule, Tombstone, owner, shared
from outbox.mirroring.errors import FieldsDifferError, UnknownRankError, UnorderedError

Row: TypeAlias = tuple[Any, ...]


class _Group(NamedTuple):
    """A leader and its followers."""

    positions: tuple[int, ...]
    values: Callable[[Row], Row]
    or_null: bool


class _Ranks(NamedTuple):
    name: str
    position: int
    rank: dict[str, int]


class _Origin(NamedTuple):
    """A field that never changes; its NULL means "not known" in a row that has a NULL at ``marker``."""

    name: str
    position: int
    marker: int | None


class Merge:
    """The merge of rows whose values stand in the order of ``columns``, at the side ``at``."""

    def __init__(self, declaration: Declaration, columns: Sequence[str], *, at: str | None = None) -> None:
        names = [declaration.key, *(name for name, _ in declaration.fields)]
        if sorted(names) != sorted(columns):
            raise ValueError(
                f"{declaration.name} is declared with {sorted(names)}, but has the columns {sorted(columns)}"
            )
        place = {name: number for number, name in enumerate(columns)}
        merged = [(name, shared(rule)) for name, rule in declaration.fields if at is None or owner(rule) != at]
        self._name = declaration.name
        self._key = place[declaration.key]
        self._own = tuple(place[name] for name, rule in declaration.fields if at is not None and owner(rule) == at)
        self._tombstones = tuple(place[name] for name, rule in declaration.fields if shared(rule) == Tombstone())
        self._groups = tuple(_groups(merged, place))
        self._ranks = tuple(_ranks(merged, place))
        self._origins = tuple(_origins(merged, place))
        self._origin_of = _values_at(tuple(origin.position for origin in self._origins))

    def __call__(self, stored: Row, incoming: Row) -> Row:
        """The state that both agree with. Of two equal values the stored one is kept.

        Raises an `UnmergeableError`, and `ValueError` where the keys differ.
        """
        if stored[self._key] != incoming[self._key]:
            name = self._name
            raise ValueError(f"cannot merge {name} {stored[self._key]} with {name} {incoming[self._key]}")
        merged = list(stored)
        for group in self._groups:
            if _wins(group, group.values(incoming), group.values(stored)):
                for position in group.positions:
                    merged[position] = incoming[position]
        if self._origin_of(stored) != self._origin_of(incoming):
            self._fill(merged, stored, incoming)
        for ranks in self._ranks:
            position = ranks.position
            if _rank(ranks, stored[position]) < _rank(ranks, incoming[position]):
                merged[position] = incoming[position]
        return tuple(merged)

    def first(self, incoming: Row, own: Row) -> Row:
        """A row that arrives where there is none yet: what this side owns comes from ``own``."""
        row = list(incoming)
        for position in self._own:
            row[position] = own[position]
        return tuple(row)

    def is_deleted(self, row: Row) -> bool:
        return any(row[position] is not None for position in self._tombstones)

    def _fill(self, merged: list[Any], stored: Row, incoming: Row) -> None:
        differing = []
        for name, position, marker in self._origins:
            ours, theirs = stored[position], incoming[position]
            if ours == theirs or (theirs is None and _is_unknown(incoming, marker)):
                continue
            if ours is None and _is_unknown(stored, marker):
                merged[position] = theirs
            else:
                differing.append(name)
        if differing:
            raise FieldsDifferError(differing)


def _wins(group: _Group, theirs: Row, ours: Row) -> bool:
    if theirs == ours:
        return False
    try:
        return _is_larger(theirs, ours, group.or_null)
    except TypeError:
        raise UnorderedError from None


def _is_larger(theirs: Row, ours: Row, or_null: bool) -> bool:
    """Of two that differ."""
    null_counts = or_null
    for their, our in zip(theirs, ours, strict=True):
        if their != our:
            return our is None if null_counts and (our is None or their is None) else bool(their > our)
        null_counts = True
    return False


def _rank(ranks: _Ranks, value: Any) -> int:
    try:
        return ranks.rank[value]
    except KeyError:
        raise UnknownRankError(ranks.name, value) from None


def _is_unknown(row: Row, marker: int | None) -> bool:
    return marker is not None and row[marker] is None


def _groups(rules: Sequence[tuple[str, Rule]], place: dict[str, int]) -> Iterable[_Group]:
    for leader, rule in rules:
        if isinstance(rule, Larger | Tombstone):
            followers = [place[name] for name, other in rules if other == Follows(leader)]
            positions = (place[leader], *followers)
            yield _Group(positions, _values_at(positions), isinstance(rule, Tombstone) or rule.or_null)


def _ranks(rules: Sequence[tuple[str, Rule]], place: dict[str, int]) -> Iterable[_Ranks]:
    for name, rule in rules:
        if isinstance(rule, Ranked):
            yield _Ranks(name, place[name], {value: rank for rank, value in enumerate(rule.lowest_to_highest)})


def _origins(rules: Sequence[tuple[str, Rule]], place: dict[str, int]) -> Iterable[_Origin]:
    for name, rule in rules:
        if isinstance(rule, Immutable):
            marker = rule.unknown_while_null
            yield _Origin(name, place[name], None if marker is None else place[marker])


def _values_at(positions: tuple[int, ...]) -> Callable[[Row], Row]:
    """Always a tuple, which `itemgetter` gives only for two and more."""
    if len(positions) > 1:
        return itemgetter(*positions)
    return lambda row: tuple(row[position] for position in positions)
