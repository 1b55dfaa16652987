"""What each rule keeps of two rows, and what it refuses."""

from typing import Any

import pytest

from outbox.mirroring.declaration import Follows, Immutable, Larger, Owned, Ranked, Tombstone, latest
from outbox.mirroring.errors import FieldsDifferError, UnknownRankError, UnorderedError
from outbox.mirroring.merge import Merge
from tests.outbox.mirroring.examples import HERE, RANKS, declared, merge_of

STAMPED = merge_of(at=Larger(), note=latest("at"), name=latest("at"))
USED = merge_of(uses=Larger(), by=Follows("uses"), when=Follows("uses"))
FILLS = merge_of(token=Immutable("token"), code=Immutable("token"))
DELETED = merge_of(at=Larger(), note=latest("at"), gone=Tombstone())


def test_of_different_values_of_an_immutable_field_all_are_named() -> None:
    merge = merge_of(one=Immutable(), two=Immutable(), three=Immutable())
    with pytest.raises(FieldsDifferError) as refusal:
        merge(("k", 1, None, 3), ("k", 1, 2, 4))
    assert refusal.value.names == ("two", "three")


@pytest.mark.parametrize(("known", "less"), [(("t", "c"), (None, None)), (("t", "c"), (None, "c"))])
def test_a_null_that_means_unknown_is_filled_in_either_order(known: tuple[str, str], less: tuple[Any, Any]) -> None:
    assert FILLS(("k", *known), ("k", *less)) == FILLS(("k", *less), ("k", *known)) == ("k", *known)


@pytest.mark.parametrize("other", [("t", "c"), (None, "c")])
def test_a_null_means_none_where_the_row_is_known(other: tuple[Any, Any]) -> None:
    with pytest.raises(FieldsDifferError, match="different code"):
        FILLS(("k", "t", None), ("k", *other))


def test_the_higher_rank_wins() -> None:
    merge = merge_of(status=Ranked(RANKS))
    assert merge(("k", "shut"), ("k", "open")) == merge(("k", "open"), ("k", "shut")) == ("k", "shut")


@pytest.mark.parametrize("pair", [("paused", "open"), ("open", "paused"), ("paused", "paused"), ("open", None)])
def test_a_value_without_a_rank_is_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(UnknownRankError) as refusal:
        merge_of(status=Ranked(RANKS))(("k", pair[0]), ("k", pair[1]))
    assert (refusal.value.field, refusal.value.value) == ("status", next(one for one in pair if one not in RANKS))


def test_the_latest_row_gives_all_that_follows_its_stamp_and_its_nulls_too() -> None:
    older, newer = ("k", 1, "note", "name"), ("k", 2, None, "n")
    assert STAMPED(older, newer) == STAMPED(newer, older) == newer


def test_a_tie_is_won_whole_by_the_first_follower_that_differs() -> None:
    one, other = ("k", 1, "same", None, 9), ("k", 1, "same", "n", 1)
    merge = merge_of(at=Larger(), note=latest("at"), name=latest("at"), size=latest("at"))
    assert merge(one, other) == merge(other, one) == other


def test_two_leaders_decide_each_for_its_own_followers() -> None:
    merge = merge_of(uses=Larger(), by=Follows("uses"), at=Larger(), note=latest("at"))
    assert merge(("k", 2, "u", 1, "old"), ("k", 1, "v", 2, "new")) == ("k", 2, "u", 2, "new")


def test_a_deletion_wins_against_every_later_state_and_the_later_deletion_is_kept() -> None:
    deleted, edited = ("k", 1, "note", 5), ("k", 9, "edited", None)
    kept = DELETED(edited, deleted)
    assert kept == DELETED(deleted, edited) == ("k", 9, "edited", 5)
    assert DELETED(kept, ("k", 1, "note", 7))[3] == 7
    assert DELETED.is_deleted(kept)
    assert not DELETED.is_deleted(edited)


def test_an_owner_takes_its_field_from_nowhere_and_the_other_side_merges_it() -> None:
    rules = declared(at=Owned(HERE, Larger()), policy=Owned(HERE, latest("at")), name=Immutable("name"))
    stored, arriving = ("k", 1, "own", None), ("k", 2, "theirs", "n")
    assert Merge(rules, ["id", "at", "policy", "name"], at=HERE)(stored, arriving) == ("k", 1, "own", "n")
    assert Merge(rules, ["id", "at", "policy", "name"], at="there")(stored, arriving) == arriving


@pytest.mark.parametrize("pair", [(1, "1"), (None, 1), (b"1", "1")])
def test_values_of_which_none_is_larger_are_refused(pair: tuple[Any, Any]) -> None:
    with pytest.raises(UnorderedError):
        USED(("k", pair[0], None, None), ("k", pair[1], None, None))


def test_null_is_the_smallest_where_it_may_stand() -> None:
    merge = merge_of(at=Larger(or_null=True), note=latest("at"))
    assert merge(("k", None, "z"), ("k", -1, "a")) == ("k", -1, "a")


def test_of_two_equal_values_the_stored_one_is_kept() -> None:
    kept = USED(("k", 1, "u", 5), ("k", True, "u", 5.0))
    assert [type(value) for value in kept] == [str, int, str, int]


def test_rows_of_two_keys_are_never_merged() -> None:
    with pytest.raises(ValueError, match="cannot merge thing a with thing b"):
        USED(("a", 1, None, None), ("b", 1, None, None))
