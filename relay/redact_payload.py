"""A payload fit to be shown: its text as it stands, so that what is wrong with it is seen, less its secrets.

Read by its strings, brackets and names, not as JSON: it may be cut short, or have a name twice.
"""

import json
import re
from enum import Enum, auto

from outbox.redact import HASH_SHOWN, redact, redact_cut

_SHOWN_DIGITS = 8
_PIECES = re.compile(r'"(?:[^"\\]|\\.)*"|"(?:[^"\\]|\\.)*\\?\Z|[{}\[\],:]|[^\s{}\[\],:"]+|\s+', re.DOTALL)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_RAW = ("code", "invitecode", "voicecode", "token", "rawtoken")
_NOTHING = ("null", "true", "false")


class _Kind(Enum):
    PLAIN = auto()
    TOKEN_HASH = auto()
    SECRET = auto()


def redacted_payload(payload: str) -> str:
    """Of the hash of a token eight digits, of a code or its hash nothing, whatever the value's shape.

    All other strings are `redact`ed.
    """
    shown: list[str] = []
    kinds = [_Kind.PLAIN]
    """Of what each open bracket stands for, the innermost last."""
    kind, name = _Kind.PLAIN, ""
    for piece in _PIECES.findall(payload):
        if piece == ":":
            kind = max(_kind_of(name), kinds[-1], key=lambda one: one.value)
        elif piece in ("{", "["):
            kinds.append(kind)
        elif piece in ("}", "]"):
            if len(kinds) > 1:
                kinds.pop()
            kind = kinds[-1]
        elif piece == ",":
            kind = kinds[-1]
        elif not piece.isspace():
            name = _text(piece)
            piece = _shown(piece, name, kind)
        shown.append(piece)
    return "".join(shown)


def _kind_of(name: str) -> _Kind:
    plain = re.sub(r"[^a-z]", "", name.lower())
    if plain.endswith("codehash") or plain in _RAW:
        return _Kind.SECRET
    return _Kind.TOKEN_HASH if plain == "tokenhash" else _Kind.PLAIN


def _text(piece: str) -> str:
    """What a string says, its escapes read, even if it is not closed or no JSON; anything else as it is."""
    if not piece.startswith('"'):
        return piece
    body = piece[1:-1] if _is_closed(piece) else piece[1:]
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else found[2], body)


def _is_closed(piece: str) -> bool:
    return len(piece) > 1 and piece.endswith('"')


def _shown(piece: str, text: str, kind: _Kind) -> str:
    if piece in _NOTHING:
        return piece
    if not piece.startswith('"'):
        return f'"{HASH_SHOWN}"' if kind is _Kind.SECRET else redact(piece)
    if kind is _Kind.SECRET:
        plain = HASH_SHOWN
    elif kind is _Kind.TOKEN_HASH and _SHA256.fullmatch(text):
        plain = f"{text[:_SHOWN_DIGITS]}…"
    else:
        plain = redact(text) if _is_closed(piece) else redact_cut(text)
    if plain == text:
        return piece
    quoted = json.dumps(plain, ensure_ascii=False)
    return quoted if _is_closed(piece) else quoted[:-1]
