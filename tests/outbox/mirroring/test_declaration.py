"""A declaration that contradicts itself, or its table, is refused where it stands, and not when the rows arrive."""

import pytest

from outbox.mirroring.declaration import Declaration, Follows, Immutable, Larger, Owned, Ranked, Rule, latest
from outbox.mirroring.merge import Merge
from tests.outbox.mirroring.examples import HERE, declared

CONTRADICTIONS: list[tuple[dict[str, Rule], str]] = [
    ({"by": Follows("uses")}, "by of thing refers to uses, which must be declared as Larger"),
    ({"by": Follows("uses"), "uses": Ranked(("a",))}, "uses, which must be declared as Larger"),
    ({"a": Larger(), "b": Follows("a"), "c": Follows("b")}, "refers to b, which must be declared as Larger"),
    ({"code": Immutable("token")}, "code of thing refers to token, which must be declared as Immutable"),
    ({"code": Immutable("token"), "token": Immutable()}, "token, which must be declared as Immutable"),
    ({"at": Owned(HERE, Larger()), "note": latest("at")}, "note and at of thing must have the same owner"),
    ({"at": Owned(HERE, Larger()), "note": Owned("there", latest("at"))}, "must have the same owner"),
    ({"code": Owned(HERE, Immutable("token")), "token": Immutable("token")}, "must have the same owner"),
]


@pytest.mark.parametrize(("rules", "words"), CONTRADICTIONS)
def test_rules_that_contradict_each_other_are_refused(rules: dict[str, Rule], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        declared(**rules)


@pytest.mark.parametrize("names", [("uses", "uses"), ("id",)])
def test_a_field_has_one_rule(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="the declaration of thing names a field twice"):
        Declaration("thing", "id", tuple((name, Larger()) for name in names))


@pytest.mark.parametrize("columns", [["id"], ["id", "uses", "more"], ["uses"], ["id", "uses", "uses"]])
def test_every_column_has_a_rule_and_every_rule_a_column(columns: list[str]) -> None:
    with pytest.raises(ValueError, match="thing is declared with"):
        Merge(declared(uses=Larger()), columns)
