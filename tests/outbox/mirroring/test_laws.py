"""Whatever is declared, and whatever the rows: the merge does not care about order, grouping or repetition (P5, P6)."""

from itertools import permutations

from hypothesis import given, settings

from outbox.mirroring.declaration import Follows, Larger, Ranked, Tombstone, owner, shared
from outbox.mirroring.errors import FieldsDifferError
from outbox.mirroring.merge import Merge, Row
from tests.outbox.mirroring.examples import HERE, RANKS, Case, cases, merged

MANY = settings(max_examples=300, deadline=None)


@MANY
@given(cases(2))
def test_it_is_commutative_refusals_included(case: Case) -> None:
    first, second = case.rows
    assert merged(case.merge(), first, second) == merged(case.merge(), second, first)


@MANY
@given(cases(2))
def test_a_refusal_names_the_same_fields_in_either_order(case: Case) -> None:
    first, second = case.rows
    assert _differing(case.merge(), first, second) == _differing(case.merge(), second, first)


@MANY
@given(cases(3))
def test_it_is_associative_refusals_included(case: Case) -> None:
    merge = case.merge()
    first, second, third = case.rows
    left, right = merged(merge, first, second), merged(merge, second, third)
    assert merged(merge, left, third) == merged(merge, first, right)


@MANY
@given(cases(2))
def test_it_is_idempotent(case: Case) -> None:
    merge = case.merge()
    first, second = case.rows
    both = merged(merge, first, second)
    assert merged(merge, first, first) == first
    assert both is None or merged(merge, both, first) == merged(merge, both, second) == both


@MANY
@given(cases(4))
def test_at_an_owner_rows_may_arrive_in_any_order_and_twice(case: Case) -> None:
    merge = case.merge(at=HERE)
    own, *arriving = case.rows
    results = {merged(merge, own, *order, order[0]) for order in permutations(arriving)}
    assert len(results) == 1


@MANY
@given(cases(3))
def test_an_owner_keeps_what_is_its_own_and_a_first_arrival_brings_none_of_it(case: Case) -> None:
    merge = case.merge(at=HERE)
    own, *arriving = case.rows
    mine = [case.columns.index(name) for name, rule in case.declaration.fields if owner(rule) == HERE]
    kept = merged(merge, merge.first(arriving[0], own), arriving[1])
    for row in [merged(merge, own, *arriving), kept]:
        assert row is None or [row[place] for place in mine] == [own[place] for place in mine]


@MANY
@given(cases(2))
def test_it_goes_back_in_nothing(case: Case) -> None:
    both = merged(case.merge(), *case.rows)
    for name, rule in case.declaration.fields if both is not None else ():
        place = case.columns.index(name)
        assert both is not None
        value, given = both[place], [row[place] for row in case.rows]
        match shared(rule):
            case Ranked():
                assert value == max(given, key=RANKS.index)
            case Larger() | Tombstone():
                assert value == max(given, key=lambda one: (one is not None, one or 0))


@MANY
@given(cases(2))
def test_a_leader_and_all_its_followers_come_from_one_row(case: Case) -> None:
    both = merged(case.merge(), *case.rows)
    for leader, rule in case.declaration.fields if both is not None else ():
        if isinstance(shared(rule), Larger):
            group = [leader, *(one for one, other in case.declaration.fields if shared(other) == Follows(leader))]
            places = [case.columns.index(name) for name in group]
            assert both is not None
            assert [both[place] for place in places] in [[row[place] for place in places] for row in case.rows]


def _differing(merge: Merge, stored: Row, incoming: Row) -> tuple[str, ...]:
    try:
        merge(stored, incoming)
    except FieldsDifferError as refusal:
        return refusal.names
    return ()
