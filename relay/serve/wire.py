"""The protocol of a side's socket: one JSON object a line in, one out. Pure; facts recorded in `tests/socket/wire`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

from outbox import error_codes
from outbox.error_codes import BAD_REQUEST
from outbox.json_values import json_integer, json_number, refuse_constant

UNKNOWN_ID = "unknown"
INVALID_JSON = "Invalid JSON"
MISSING_FIELD = "Missing 'id' or 'method' field"
UNKNOWN_METHOD = "Unknown method: "
# In one line.
MOST_VALUES = 10_000
# What JavaScript's `trim` takes off. Python's own idea of space also has U+0085 and U+001C to U+001F, and not U+FEFF.
SPACES = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What is ``asked`` of a method; ``id`` is whatever the client gave, and goes back as it came."""

    id: object
    asked: T


def read_request(line: bytes, methods: Mapping[str, Callable[[object], T]]) -> Request[T] | bytes | None:
    """What a line asks for, or the reply that refuses it, or None for a blank line."""
    if has_too_many_values(line):
        return error_reply(UNKNOWN_ID, INVALID_JSON, BAD_REQUEST)
    try:
        text = line.decode().strip(SPACES)
        if not text:
            return None
        found = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return error_reply(UNKNOWN_ID, INVALID_JSON, BAD_REQUEST)
    request = found if isinstance(found, dict) else {}
    id_, method = request.get("id"), request.get("method")
    if not (_is_truthy(id_) and _is_truthy(method)):
        return error_reply(id_ if isinstance(id_, str) else UNKNOWN_ID, MISSING_FIELD, BAD_REQUEST)
    read_params = methods.get(method) if isinstance(method, str) else None
    if read_params is None:
        named = method if isinstance(method, str) else _json(method)
        return error_reply(id_, UNKNOWN_METHOD + named, error_codes.UNKNOWN_METHOD)
    return Request(id_, read_params(request.get("params")))


def error_reply(id_: object, error: str, code: Mapping[str, object] = MappingProxyType({})) -> bytes:
    return reply(id_, {"error": error, **code})


def reply(id_: object, answer: Mapping[str, object]) -> bytes:
    """The line that brings ``answer``: what a method says, without the id of the one that asked."""
    fields = [f'"id":{_json(id_)}', *[f'"{name}":{_json(value)}' for name, value in answer.items()]]
    return f"{{{','.join(fields)}}}\n".encode()


def _json(value: object) -> str:
    """``null`` for what JSON has no word for: 1e400 is infinite once read, and what could just be read may be nested
    too deeply to be written."""
    try:
        return _ENCODER.encode(value)
    except (ValueError, RecursionError):
        return "null"


def _is_truthy(value: object) -> bool:
    """As JavaScript has it: an empty object or array counts as true."""
    return isinstance(value, dict | list) or bool(value)


def has_too_many_values(line: bytes) -> bool:
    """Whether reading the line would take far more memory, and time, than its bytes.

    Read, each value is an object of 50 to 250 bytes, however short its text: 4 MiB of ``[],`` take 90 MiB. An honest
    request has a few dozen, of any length, so it is their number that is bounded, before any of them is made.
    """
    if len(line) <= MOST_VALUES or _structure(line) <= MOST_VALUES:
        return False
    # Long texts may be full of commas, so only what stands between the strings counts: without escapes, every other
    # part. Up to the first error, where the decoder stops as well, this cuts as the decoder does.
    bare = line.replace(rb"\\", b"").replace(rb"\"", b"")
    return bare.count(b'"') > 2 * MOST_VALUES or sum(map(_structure, bare.split(b'"')[::2])) > MOST_VALUES


def _structure(text: bytes) -> int:
    """No less than the number of values in it, less one."""
    return sum(map(text.count, (b",", b":", b"[", b"{")))


# Made once: with any option, json.loads and json.dumps make theirs again at each call.
_DECODER = json.JSONDecoder(parse_constant=refuse_constant, parse_int=json_integer, parse_float=json_number)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
