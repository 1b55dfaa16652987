"""What counts as an invite, as recorded from the real gateway, and how a refusal names what is wrong."""

from typing import Any

import pytest

from gateway_store import InvalidPayloadError
from gateway_store.invites.payload import parse_payload
from tests.gateway_store.examples import RECORDED, invite, payload

LARGEST = 2**53 - 1
REQUIRED = [
    "id",
    "sourceChannel",
    "tokenHash",
    "maxUses",
    "useCount",
    "expiresAt",
    "status",
    "contactId",
    "createdAt",
    "updatedAt",
]
OPTIONAL = [name for name in RECORDED if name not in REQUIRED]
TEXTS = [name for name, value in RECORDED.items() if isinstance(value, str) and name != "status"]
INTEGERS = ["maxUses", "useCount", "expiresAt", "createdAt", "updatedAt", "redeemedAt", "voiceCodeDigits"]


def paths(params: Any) -> list[list[str]]:
    """The ``path`` of every issue for which ``params`` are refused."""
    with pytest.raises(InvalidPayloadError) as refused:
        parse_payload(params)
    assert all(issue["code"] and issue["message"] for issue in refused.value.issues)
    return [issue["path"] for issue in refused.value.issues]


def test_the_recorded_invite_becomes_a_row() -> None:
    assert parse_payload(RECORDED) == invite()


def test_empty_params_are_refused_by_naming_every_required_field() -> None:
    assert paths({}) == [[name] for name in REQUIRED]


@pytest.mark.parametrize("name", REQUIRED)
def test_a_required_field_that_is_absent_or_null_is_named(name: str) -> None:
    without = {key: value for key, value in RECORDED.items() if key != name}
    assert paths(without) == paths(without | {name: None}) == [[name]]


@pytest.mark.parametrize("params", [None, [], "text", 1, True, b"{}"])
def test_params_that_are_no_object_are_refused_as_a_whole(params: Any) -> None:
    assert paths(params) == [[]]


def test_wrong_types_are_all_named() -> None:
    wrong = payload(id="", maxUses="1", useCount=1.5, expiresAt=None, status="ACTIVE")
    assert paths(wrong) == [["id"], ["maxUses"], ["useCount"], ["expiresAt"], ["status"]]


def test_counts_out_of_bounds_are_named() -> None:
    assert paths(payload(maxUses=0, useCount=-1)) == [["maxUses"], ["useCount"]]


def test_an_absent_optional_equals_null() -> None:
    without = {name: RECORDED[name] for name in REQUIRED}
    assert parse_payload(without) == parse_payload(without | dict.fromkeys(OPTIONAL))


def test_unknown_keys_are_ignored() -> None:
    assert parse_payload(RECORDED | {"extra": 1, "rawToken": "secret", "": {"deep": [None]}}) == invite()


@pytest.mark.parametrize("name", INTEGERS)
def test_a_whole_float_is_an_integer_and_arrives_as_one(name: str) -> None:
    parsed = parse_payload(payload(**{name: 7.0}))
    assert parsed == parse_payload(payload(**{name: 7}))
    assert not any(isinstance(value, float) for value in (parsed.max_uses, parsed.use_count, parsed.updated_at))


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize(
    "value", [True, False, 1.5, "7", float("inf"), float("nan"), [], {}, LARGEST + 1, 1e308, 10**400]
)
def test_what_is_no_safe_integer_is_refused(name: str, value: Any) -> None:
    assert paths(payload(**{name: value})) == [[name]]


@pytest.mark.parametrize("name", ["expiresAt", "createdAt", "updatedAt", "redeemedAt", "voiceCodeDigits"])
def test_integers_reach_from_the_smallest_safe_one_to_the_largest(name: str) -> None:
    for edge in (LARGEST, -LARGEST):
        assert edge in parse_payload(payload(**{name: edge}))
    assert paths(payload(**{name: -LARGEST - 1})) == [[name]]


def test_counts_reach_down_to_their_least() -> None:
    parsed = parse_payload(payload(maxUses=1, useCount=0))
    assert (parsed.max_uses, parsed.use_count) == (1, 0)


@pytest.mark.parametrize("name", [*TEXTS, "note", "friendName", "redeemedByExternalUserId"])
@pytest.mark.parametrize("value", ["a\x00b", "a\ud800b", 1, True, [], {}])
def test_what_is_no_storable_text_is_refused(name: str, value: Any) -> None:
    assert paths(payload(**{name: value})) == [[name]]


@pytest.mark.parametrize("value", ["", "a\nb\n", "\u2028\ufeff", "🌍", "\x01\x7f", "x" * 100_000])
def test_any_other_text_is_kept_as_it_is(value: str) -> None:
    assert parse_payload(payload(note=value)).note == value


@pytest.mark.parametrize("name", ["id", "contactId"])
def test_an_empty_id_is_refused(name: str) -> None:
    assert paths(payload(**{name: ""})) == [[name]]


@pytest.mark.parametrize("status", ["active", "redeemed", "revoked", "expired"])
def test_the_four_statuses_are_known(status: str) -> None:
    assert parse_payload(payload(status=status)).status == status


@pytest.mark.parametrize("status", ["", "ACTIVE", "paused", "active ", None, 0])
def test_any_other_status_is_refused(status: Any) -> None:
    assert paths(payload(status=status)) == [["status"]]


def test_a_refusal_reads_as_one_sentence_that_names_the_paths() -> None:
    with pytest.raises(InvalidPayloadError, match=r"^invalid invite: id: .+; maxUses: .+$"):
        parse_payload(payload(id="", maxUses=0))
