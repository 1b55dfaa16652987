"""Keeps secrets out of reasons, logs and screens: of hashes and raw tokens nothing is left.

The hash of a six-digit code is the code: who has eight digits of it has tried all codes in a second. In free text no
hash can be told from that of a code, so all are removed, whole, cut or shortened.
"""

import re

MAX_REASON = 2_000
# Of a longer text no more is searched: redacting megabytes of a gateway's words takes seconds. Removing hashes makes
# a text shorter, hence the room.
MAX_SEARCHED = 8 * MAX_REASON
HASH_SHOWN = "[hash]"

# Longer than an identity or a UUID without its hyphens, which have 32 digits; a hash may touch other digits.
_HASH = re.compile(r"([0-9a-fA-F]{33,})(?:…|\.\.\.)?")
# As releases before this one shortened them, and stored them with their reasons.
_SHORTENED = re.compile(r"(?<![0-9a-zA-Z])[0-9a-fA-F]{4,32}(?:…|\.\.\.)")
# Of whatever length, where the text says that it is one.
_CODE_FIELD = re.compile(r"(code_?hash\w*[\"']?\s*[:=]?\s*[\"']?)[0-9a-fA-F]{6,}(?![0-9A-Za-z])", re.IGNORECASE)
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
_ESCAPED = re.compile(r"\\u00([346][0-9a-fA-F])")
_HASH_DIGITS, _FEWEST_DIFFERENT = 64, 8
_CUT_WORD = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")


def redact(text: str) -> str:
    """``text`` without SHA-256 hashes, also shortened ones, and without anything of a raw token's shape.

    Letters and digits that JSON escapes are written plainly.
    """
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    without_hashes = _SHORTENED.sub(HASH_SHOWN, _HASH.sub(_without_hash, text))
    return _TOKEN.sub("[token]", _CODE_FIELD.sub(rf"\1{HASH_SHOWN}", without_hashes))


def _without_hash(found: re.Match[str]) -> str:
    """Of 33 digits of a hash fewer than 8 are different once in 50 million: such a run is somebody's filling."""
    digits = found[1]
    is_filling = len(digits) != _HASH_DIGITS and len(set(digits.lower())) < _FEWEST_DIFFERENT
    return found[0] if is_filling else HASH_SHOWN


def redact_cut(text: str) -> str:
    """`redact` of a text that was cut off somewhere: half a secret at the cut would have no secret's shape."""
    return redact(_CUT_WORD.sub("", text))


def redact_reason(text: str) -> str:
    """A reason fit to be stored and shown: one line, redacted, control characters escaped, at most 2,000 characters.

    Takes no longer for a longer text.
    """
    if len(text) > MAX_SEARCHED:
        text = _CUT_WORD.sub("", text[:MAX_SEARCHED])
    line = " ".join(redact(text).split())
    return printable(line)[:MAX_REASON]


def printable(text: str) -> str:
    """Control characters and lone surrogates escaped, so that no text steers a terminal or stops a log."""
    return text if text.isprintable() else "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def reason_of(error: Exception) -> str:
    """`redact_reason` of what went wrong in a database, in the driver's own words where SQLAlchemy wraps them.

    Of PostgreSQL's words the first line: its details quote the row.
    """
    cause = getattr(error, "orig", None) or error
    primary = getattr(getattr(cause, "diag", None), "message_primary", None)
    return redact_reason(str(primary or cause))
