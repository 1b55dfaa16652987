"""Keeps secrets out of reasons, logs and screens: hashes are shortened, raw tokens removed."""

import re

MAX_REASON = 2_000
# Of a longer text no more is searched: redacting megabytes of a gateway's words takes seconds. Shortening hashes makes
# a text shorter, hence the room.
MAX_SEARCHED = 8 * MAX_REASON

_HASH = re.compile(r"(?<![0-9a-fA-F])([0-9a-fA-F]{8})[0-9a-fA-F]{56}(?![0-9a-fA-F])")
_TOKEN = re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}(?![A-Za-z0-9_-])")
_CUT_WORD = re.compile(r"[A-Za-z0-9_-]{1,80}\Z")


def redact(text: str) -> str:
    """``text`` with SHA-256 hashes cut to 8 digits and anything of a raw token's shape removed."""
    return _TOKEN.sub("[token]", _HASH.sub(r"\1…", text))


def redact_reason(text: str) -> str:
    """A reason fit to be stored and shown: one line, redacted, control characters escaped, at most 2,000 characters.

    Takes no longer for a longer text.
    """
    if len(text) > MAX_SEARCHED:
        # Half a secret at the cut would have no secret's shape.
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
