"""Tokens, codes and ids. The raw ones leave this package once, in `CreatedInvite`; only hashes are kept."""

import hashlib
import secrets
import uuid

TOKEN_BYTES = 32
CODE_DIGITS = 6


def new_token() -> str:
    """32 random bytes, base64url without padding."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def new_code() -> str:
    """Six digits, uniform over 100000 to 999999."""
    lowest = 10 ** (CODE_DIGITS - 1)
    return str(lowest + secrets.randbelow(9 * lowest))


def hash_secret(raw: str) -> str:
    """Plain SHA-256 hex: rows hashed elsewhere exist, so the scheme must stay."""
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()


def new_id(now: int) -> str:
    """A UUID of version 7: ids grow with time, so new rows go to the end of the primary key's tree in both stores."""
    bits = (now & (2**48 - 1)) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return str(uuid.UUID(int=bits))
