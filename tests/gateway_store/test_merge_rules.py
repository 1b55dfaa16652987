"""What the merge keeps of two states, rule by rule."""

from itertools import product
from typing import Any

import pytest

from gateway_store import ImmutableFieldError, Invite, StoredRowError
from gateway_store.invites.merge import merge
from tests.gateway_store.examples import CODE_HASH, LOWEST_TO_HIGHEST, OTHER_HASH, TOKEN_HASH, invite

OTHER_VALUES: dict[str, Any] = {
    "source_channel": "phone",
    "token_hash": OTHER_HASH,
    "invite_code_hash": OTHER_HASH,
    "voice_code_hash": OTHER_HASH,
    "voice_code_digits": 4,
    "max_uses": 2,
    "created_at": 1,
}
TIED: dict[str, Any] = {
    "redeemed_by_external_user_id": (None, "u1"),
    "redeemed_by_external_chat_id": ("c1", "c2"),
    "redeemed_at": (None, 1),
    "source_conversation_id": (None, ""),
    "note": ("n1", "n2"),
    "expires_at": (1, 2),
    "expected_external_user_id": (None, "e1"),
    "friend_name": ("f1", "f2"),
    "guardian_name": (None, "g1"),
    "contact_id": ("co-1", "co-2"),
}
FULL = invite(voice_code_hash=CODE_HASH, voice_code_digits=6)


def replace(one: Invite, **changed: Any) -> Invite:
    return one._replace(**changed)


NULLABLE = ["invite_code_hash", "voice_code_hash", "voice_code_digits"]


@pytest.mark.parametrize(("first", "second"), list(product(LOWEST_TO_HIGHEST, repeat=2)))
def test_the_status_of_the_higher_rank_wins_whatever_is_newer(first: str, second: str) -> None:
    kept = merge(invite(status=first, updated_at=9), invite(status=second, updated_at=1))
    assert kept.status == max(first, second, key=LOWEST_TO_HIGHEST.index)


def test_the_redemption_comes_whole_from_the_side_that_was_used_more() -> None:
    once = invite(use_count=1, redeemed_by_external_user_id="u1", redeemed_by_external_chat_id="c1", updated_at=9)
    twice = invite(use_count=2, redeemed_by_external_user_id="u2", redeemed_at=7, updated_at=1)
    kept = merge(once, twice)
    assert (kept.use_count, kept.redeemed_by_external_user_id, kept.redeemed_at) == (2, "u2", 7)
    assert kept.redeemed_by_external_chat_id is None


def test_the_rest_comes_whole_from_the_newer_side() -> None:
    older = invite(updated_at=1, use_count=5, note="old", friend_name="F", source_conversation_id="s")
    newer = invite(updated_at=2, note="new", expires_at=3, contact_id="co-2", expected_external_user_id="e")
    kept = merge(older, newer)
    assert kept == replace(newer, use_count=5)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (invite(note="a", friend_name=None), invite(note="b", friend_name="F")),
        (invite(note=None, friend_name="F"), invite(note="", friend_name="A")),
        (invite(expires_at=1, contact_id="co-9"), invite(expires_at=2, contact_id="co-1")),
    ],
)
def test_a_tie_of_two_newest_sides_is_won_whole_by_one_of_them_in_either_order(one: Any, other: Any) -> None:
    assert merge(one, other) == merge(other, one)
    assert merge(one, other) in (one, other)


def test_a_tie_of_two_uses_is_won_whole_by_one_of_them_in_either_order() -> None:
    one = invite(use_count=1, redeemed_by_external_user_id="u1", redeemed_at=9)
    other = invite(use_count=1, redeemed_by_external_user_id="u2", redeemed_at=None)
    assert merge(one, other) == merge(other, one)
    assert merge(one, other) in (one, other)


@pytest.mark.parametrize("name", TIED)
def test_a_tie_in_which_one_field_differs_keeps_the_same_value_in_either_order(name: str) -> None:
    low, high = (invite(use_count=1, **{name: value}) for value in TIED[name])
    assert merge(low, high) == merge(high, low) == high


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_another_value_in_a_field_that_never_changes_is_refused_for_good(name: str) -> None:
    stranger = replace(FULL, **{name: OTHER_VALUES[name]}, updated_at=FULL.updated_at + 1)
    with pytest.raises(ImmutableFieldError, match=f"rec-16197 is mirrored with another {name};"):
        merge(FULL, stranger)


def test_a_refusal_names_every_field_that_differs() -> None:
    with pytest.raises(ImmutableFieldError, match="another source_channel, max_uses;"):
        merge(FULL, replace(FULL, source_channel="phone", max_uses=2))


@pytest.mark.parametrize("name", NULLABLE)
def test_a_null_of_a_row_older_than_the_mirror_is_filled(name: str) -> None:
    older = replace(FULL, token_hash=None, **{name: None})
    assert merge(older, FULL) == merge(FULL, older) == FULL


def test_two_rows_older_than_the_mirror_fill_each_other_and_still_know_no_token() -> None:
    one = replace(FULL, token_hash=None, voice_code_hash=None, voice_code_digits=None)
    other = replace(FULL, token_hash=None, invite_code_hash=None)
    assert merge(one, other) == replace(FULL, token_hash=None)


@pytest.mark.parametrize("name", ["source_channel", "invite_code_hash", "max_uses", "created_at"])
def test_a_row_older_than_the_mirror_still_refuses_another_value(name: str) -> None:
    older = replace(FULL, token_hash=None)
    with pytest.raises(ImmutableFieldError, match=name):
        merge(older, replace(FULL, **{name: OTHER_VALUES[name]}))


@pytest.mark.parametrize("name", NULLABLE)
def test_a_null_of_a_whole_row_means_none_and_is_not_filled(name: str) -> None:
    without = replace(FULL, **{name: None})
    for pair in [(FULL, without), (without, FULL), (without, replace(FULL, token_hash=None))]:
        with pytest.raises(ImmutableFieldError, match=name):
            merge(*pair)


def test_a_stored_status_that_is_unknown_is_refused_by_name() -> None:
    with pytest.raises(StoredRowError, match="rec-16197 has the unknown status 'paused'"):
        merge(invite(status="paused"), invite())


def test_two_invites_of_different_ids_are_never_merged() -> None:
    with pytest.raises(ValueError, match="cannot merge invite a with invite b"):
        merge(invite(id="a"), invite(id="b"))


def test_filling_the_token_hash_makes_the_row_whole() -> None:
    older = invite(token_hash=None)
    whole = merge(older, invite(token_hash=TOKEN_HASH))
    with pytest.raises(ImmutableFieldError, match="token_hash"):
        merge(whole, invite(token_hash=OTHER_HASH))
