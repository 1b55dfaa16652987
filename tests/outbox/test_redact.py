"""P11: what is stored as a reason, logged or shown holds no hash and no raw token."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_store.invites.secret import TOKEN_BYTES, hash_secret
from outbox.redact import MAX_REASON, MAX_SEARCHED, redact, redact_reason

TOKEN = "A-_z" * 10 + "b7Q"
HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"hash {HASH} differs", "hash [hash] differs"),
        (f"'{HASH.upper()}'", "'[hash]'"),
        (f"{HASH},{HASH}", "[hash],[hash]"),
        (f"bad{HASH}00", "[hash]"),
        (f"cut {HASH[:40]} and {HASH[:40]}…", "cut [hash] and [hash]"),
        (f"shortened {HASH[:8]}…, {HASH[:12]}...", "shortened [hash], [hash]"),
        (f"invite_code_hash {HASH[:12]} differs", "invite_code_hash [hash] differs"),
        (f"'voiceCodeHash': '{HASH[:6]}'", "'voiceCodeHash': '[hash]'"),
        ("inviteCodeHash=123456", "inviteCodeHash=[hash]"),
        ("".join(f"\\u{ord(one):04x}" for one in HASH), "[hash]"),
        ("inviteCodeHash: Input should be a valid string", "inviteCodeHash: Input should be a valid string"),
        ("gateway 0190f5a47c1e7abc8def0123456789ab…", "gateway [hash]"),
        ("gateway 0190f5a47c1e7abc8def0123456789ab", "gateway 0190f5a47c1e7abc8def0123456789ab"),
        (f"token {TOKEN} is wrong", "token [token] is wrong"),
        (f'{{"token":"{TOKEN}"}}', '{"token":"[token]"}'),
        (f"token={TOKEN}.", "token=[token]."),
        ("0190f5a4-7c1e-7abc-8def-0123456789ab of co-1", "0190f5a4-7c1e-7abc-8def-0123456789ab of co-1"),
        ("a" * 42, "a" * 42),
        ("ab" * 32, "[hash]"),
    ],
)
def test_hashes_and_tokens_are_removed_and_the_rest_is_kept(given: str, shown: str) -> None:
    assert redact(given) == shown


@given(st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES))
def test_no_token_or_hash_of_the_shape_that_we_make_gets_through(drawn: bytes) -> None:
    token = base64.urlsafe_b64encode(drawn).decode().rstrip("=")

    shown = redact(f"{token} {hash_secret(token)} ({token})")

    assert token not in shown
    assert hash_secret(token) not in shown


@given(st.integers(100_000, 999_999), st.integers(6, 64), st.text(max_size=20))
def test_nothing_is_left_of_the_hash_of_a_code_from_which_the_code_could_be_found(
    code: int, digits: int, around: str
) -> None:
    cut = hash_secret(str(code))[:digits]
    said = [f"inviteCodeHash {cut}", f"voice_code_hash={cut}", f"{around} {cut}…"]
    if digits > 32:
        said.append(f"{around}{cut}{around}")

    assert not any(cut[:6] in redact(one).removeprefix(around).removesuffix(around) for one in said)


@pytest.mark.parametrize("before", range(MAX_SEARCHED - 70, MAX_SEARCHED + 2, 7))
def test_a_hash_at_the_end_of_what_is_searched_leaves_no_half(before: int) -> None:
    # White space, of which a reason keeps little: what is kept is the end.
    assert HASH[:6] not in redact_reason(" " * (before - 1) + " " + HASH)


@given(st.text(st.characters(), max_size=5000))
def test_a_reason_can_always_be_stored(text: str) -> None:
    reason = redact_reason(text)

    assert len(reason) <= MAX_REASON
    assert "\x00" not in reason
    assert "\n" not in reason
    reason.encode()
