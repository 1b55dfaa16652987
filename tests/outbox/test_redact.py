"""P11: what is stored as a reason, logged or shown holds no hash and no raw token."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_store.secret import TOKEN_BYTES, hash_secret
from outbox.redact import MAX_REASON, redact, redact_reason

TOKEN = "A-_z" * 10 + "b7Q"
HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (f"hash {HASH} differs", "hash 01234567… differs"),
        (f"'{HASH.upper()}'", "'01234567…'"),
        (f"{HASH},{HASH}", "01234567…,01234567…"),
        (f"token {TOKEN} is wrong", "token [token] is wrong"),
        (f'{{"token":"{TOKEN}"}}', '{"token":"[token]"}'),
        (f"token={TOKEN}.", "token=[token]."),
        ("0190f5a4-7c1e-7abc-8def-0123456789ab of co-1", "0190f5a4-7c1e-7abc-8def-0123456789ab of co-1"),
        ("a" * 42, "a" * 42),
    ],
)
def test_hashes_are_shortened_and_tokens_removed_and_the_rest_is_kept(given: str, shown: str) -> None:
    assert redact(given) == shown


@given(st.binary(min_size=TOKEN_BYTES, max_size=TOKEN_BYTES))
def test_no_token_or_hash_of_the_shape_that_we_make_gets_through(drawn: bytes) -> None:
    token = base64.urlsafe_b64encode(drawn).decode().rstrip("=")

    shown = redact(f"{token} {hash_secret(token)} ({token})")

    assert token not in shown
    assert hash_secret(token) not in shown


@given(st.text(st.characters(), max_size=5000))
def test_a_reason_can_always_be_stored(text: str) -> None:
    reason = redact_reason(text)

    assert len(reason) <= MAX_REASON
    assert "\x00" not in reason
    assert "\n" not in reason
    reason.encode()
