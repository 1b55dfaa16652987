"""A message's text may be anything at all: it becomes an invite or an `InvalidPayloadError`, never something else."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_store import InvalidPayloadError, Invite
from gateway_store.invites.payload import parse_payload
from tests.gateway_store.examples import RECORDED, invite, payload

TEXT = json.dumps(RECORDED)
DEEP = 100_000
BAD = {
    "empty": "",
    "blank": " \n",
    "not json": "{not json",
    "cut short": TEXT[:-1],
    "two values": TEXT + TEXT,
    "byte order mark": "\ufeff" + TEXT,
    "null": "null",
    "array": "[]",
    "array of an invite": f"[{TEXT}]",
    "string": '"text"',
    "number": "1",
    "true": "true",
    "NaN in a field": TEXT.replace('"maxUses": 1', '"maxUses": NaN'),
    "NaN in an unknown key": TEXT[:-1] + ', "extra": NaN}',
    "Infinity": TEXT.replace('"maxUses": 1', '"maxUses": Infinity'),
    "-Infinity": TEXT.replace('"maxUses": 1', '"maxUses": -Infinity'),
    "1e400": TEXT.replace('"maxUses": 1', '"maxUses": 1e400'),
    "5,000 digits": TEXT.replace('"maxUses": 1', f'"maxUses": {"9" * 5_000}'),
    "400 digits": TEXT.replace('"maxUses": 1', f'"maxUses": {"9" * 400}'),
    "the same key twice": TEXT[:-1] + ', "status": "revoked"}',
    "the same key twice, deeper": TEXT[:-1] + ', "extra": {"a": 1, "a": 2}}',
    "arrays without an end": "[" * DEEP,
    "deep arrays": "[" * DEEP + "]" * DEEP,
    "deep objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "deep array in an unknown key": TEXT[:-1] + ', "extra": ' + "[" * DEEP + "]" * DEEP + "}",
    "array in a text": TEXT.replace('"note": null', f'"note": {"[" * 500 + "]" * 500}'),
    "NUL in a text": TEXT.replace('"note": null', r'"note": "a\u0000b"'),
    "lone surrogate in a text": TEXT.replace('"note": null', r'"note": "a\ud800b"'),
    "lone surrogate in the status": TEXT.replace('"active"', r'"\udfff"'),
    "lone surrogate outside of JSON's escapes": '"\ud800"',
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_a_bad_text_is_an_invalid_payload(text: str) -> None:
    with pytest.raises(InvalidPayloadError) as refused:
        parse_payload(text)
    assert refused.value.issues


def test_a_good_text_is_the_invite() -> None:
    assert parse_payload(TEXT) == parse_payload(f" \n{TEXT}\r\n") == invite()


def test_escaped_and_plain_characters_are_the_same_text() -> None:
    zoe = payload(note="Zoë 🌍")
    assert parse_payload(json.dumps(zoe)) == parse_payload(json.dumps(zoe, ensure_ascii=False)) == invite(note="Zoë 🌍")


def test_odd_values_of_unknown_keys_are_ignored() -> None:
    odd = r', "extra": 1e400, "\ud800": "\u0000", "": [true]}'
    assert parse_payload(TEXT[:-1] + odd) == invite()


@settings(max_examples=150, deadline=None)
@given(st.text())
def test_no_text_raises_anything_but_an_invalid_payload(text: str) -> None:
    with pytest.raises(InvalidPayloadError):
        parse_payload(text)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(RECORDED)), JSON_VALUES)
def test_no_value_of_a_field_raises_anything_but_an_invalid_payload(name: str, value: object) -> None:
    text = json.dumps(RECORDED | {name: value})
    with contextlib.suppress(InvalidPayloadError):
        assert parse_payload(text) != invite() or value == RECORDED[name]


# A colon in the value of an unknown key: such a text is never read the quick way.
NOT_PLAIN = ', "extra": ":"}'
ODD = ["1.0", "1e0", "-0", "01", "1.", "+1", "NaN", "9007199254740993", r'"\u003a"', r'"\":"', '"\x01"', "'a'", "null"]


@st.composite
def pairs(draw: st.DrawFn) -> tuple[str, str]:
    """A key of the invite in any spelling, and a value that is often its own."""
    name, value = draw(st.sampled_from(sorted(RECORDED.items(), key=str)))
    spelled = draw(st.sampled_from([f'"{name}"', f'"\\u{ord(name[0]):04x}{name[1:]}"', f'"{name}" \t\r\n']))
    return spelled, draw(st.one_of(st.just(json.dumps(value)), st.sampled_from(ODD), JSON_VALUES.map(json.dumps)))


@settings(max_examples=300, deadline=None)
@given(st.none() | pairs(), st.lists(pairs(), max_size=2))
def test_what_is_read_the_quick_way_is_read_as_the_careful_way_reads_it(
    changed: tuple[str, str] | None, added: list[tuple[str, str]]
) -> None:
    kept = {f'"{name}"': json.dumps(value) for name, value in RECORDED.items()}
    kept |= [changed] if changed else []
    text = "{" + ", ".join(f"{key}: {value}" for key, value in (*kept.items(), *added)) + "}"
    assert result(text) == result(text[:-1] + NOT_PLAIN)


def result(text: str) -> Invite | None:
    try:
        return parse_payload(text)
    except InvalidPayloadError:
        return None
