"""How two states of a mirrored row become one, declared field by field. A store declares; `Merge` applies it.

Each rule takes the larger of two values in a fixed order, or refuses both. So the result does not depend on which
state arrives first, nor on how often.
"""

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Immutable:
    """Two different values are refused: they belong to different rows under one key.

    With ``unknown_while_null`` a NULL means "not known" as long as the field of that name is NULL in the same row, and
    is then filled by the other row's value. A field whose every NULL means "not known" names itself.
    """

    unknown_while_null: str | None = None


@dataclass(frozen=True, slots=True)
class Ranked:
    """The value that stands later in ``lowest_to_highest`` wins; a value that does not stand there is refused."""

    lowest_to_highest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Larger:
    """The larger value wins. With ``or_null``, NULL is smaller than every value; without it, NULL is no value."""

    or_null: bool = False


@dataclass(frozen=True, slots=True)
class Follows:
    """Comes from the row whose ``leader``, a field declared `Larger`, is the larger one.

    All followers of one leader come from the same row. If the leaders are equal, the row wins in which the first
    follower that differs is larger; NULL is smaller than every value.
    """

    leader: str


@dataclass(frozen=True, slots=True)
class Tombstone:
    """NULL while the row lives, and the instant of its deletion afterwards, which no other state takes back."""


Shared: TypeAlias = Immutable | Ranked | Larger | Follows | Tombstone


@dataclass(frozen=True, slots=True)
class Owned:
    """Belongs to the side ``by``, which takes it from nowhere else. Every other side merges it by ``rule``.

    A leader and its followers have the same owner.
    """

    by: str
    rule: Shared


Rule: TypeAlias = Shared | Owned


def latest(stamp: str) -> Follows:
    """From the row that was edited later, as ``stamp`` says, a field declared `Larger`."""
    return Follows(stamp)


@dataclass(frozen=True, slots=True)
class Declaration:
    """The rules for all fields of a row but its ``key``. Raises `ValueError` where two rules contradict each other.

    Where order counts it is that of ``fields``: followers break a tie in it, and a refusal names fields in it.
    """

    name: str
    """What one row is called in errors."""
    key: str
    fields: tuple[tuple[str, Rule], ...]

    def __post_init__(self) -> None:
        names = [self.key, *(name for name, _ in self.fields)]
        if len(set(names)) != len(names):
            raise ValueError(f"the declaration of {self.name} names a field twice")
        for name, rule in self.fields:
            self._check(name, shared(rule))

    def _check(self, name: str, rule: Shared) -> None:
        if isinstance(rule, Follows):
            self._check_same_owner(name, rule.leader, Larger())
        elif isinstance(rule, Immutable) and rule.unknown_while_null is not None:
            self._check_same_owner(name, rule.unknown_while_null, Immutable(rule.unknown_while_null))

    def _check_same_owner(self, name: str, other: str, expected: Shared) -> None:
        rules = dict(self.fields)
        found = rules.get(other)
        if found is None or not _fits(shared(found), expected):
            raise ValueError(f"{name} of {self.name} refers to {other}, which must be declared as {expected}")
        if owner(found) != owner(rules[name]):
            raise ValueError(f"{name} and {other} of {self.name} must have the same owner")


def shared(rule: Rule) -> Shared:
    return rule.rule if isinstance(rule, Owned) else rule


def owner(rule: Rule) -> str | None:
    return rule.by if isinstance(rule, Owned) else None


def _fits(found: Shared, expected: Shared) -> bool:
    return isinstance(found, Larger) if isinstance(expected, Larger) else found == expected
