"""P5, P6: the merge does not care who arrives first, in which groups, or how often."""

from hypothesis import given, settings

from gateway_store import ImmutableFieldError, Invite
from gateway_store.invites.merge import merge
from tests.gateway_store.examples import LOWEST_TO_HIGHEST, merged, rows_of_one_invite, rows_under_one_id

MANY = settings(max_examples=250, deadline=None)


@MANY
@given(rows_under_one_id(2))
def test_two_rows_merge_to_the_same_in_either_order_or_are_refused_in_both(rows: list[Invite]) -> None:
    first, second = rows
    assert merged(first, second) == merged(second, first)


@MANY
@given(rows_under_one_id(2))
def test_a_refusal_names_the_same_fields_in_either_order(rows: list[Invite]) -> None:
    first, second = rows
    assert _refusal(first, second) == _refusal(second, first)


@MANY
@given(rows_under_one_id(3))
def test_three_rows_merge_to_the_same_in_either_grouping_or_are_refused_in_both(rows: list[Invite]) -> None:
    first, second, third = rows
    left, right = merged(first, second), merged(second, third)
    grouped_left = None if left is None else merged(left, third)
    grouped_right = None if right is None else merged(first, right)
    assert grouped_left == grouped_right


@MANY
@given(rows_under_one_id(2))
def test_merging_again_what_is_merged_changes_nothing(rows: list[Invite]) -> None:
    first, second = rows
    both = merged(first, second)
    assert merged(first, first) == first
    assert both is None or merged(both, first) == merged(both, second) == merged(second, both) == both


@MANY
@given(rows_of_one_invite(3))
def test_rows_of_one_invite_are_never_refused(rows: list[Invite]) -> None:
    assert merged(*rows) is not None


@MANY
@given(rows_of_one_invite(2))
def test_a_merge_goes_back_in_nothing(rows: list[Invite]) -> None:
    both = merge(*rows)
    for one in rows:
        assert LOWEST_TO_HIGHEST.index(both.status) >= LOWEST_TO_HIGHEST.index(one.status)
        assert both.use_count >= one.use_count
        assert both.updated_at >= one.updated_at
        assert one.token_hash is None or both.token_hash == one.token_hash


def _refusal(stored: Invite, incoming: Invite) -> str | None:
    try:
        merge(stored, incoming)
    except ImmutableFieldError as refusal:
        return str(refusal)
    return None
