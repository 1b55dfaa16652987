"""The protocol of a side's socket: one JSON object a line in, one out. Pure; facts recorded in `tests/socket/wire`."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from outbox.json_values import json_integer, json_number, refuse_constant

UNKNOWN_ID = "unknown"
INVALID_JSON = "Invalid JSON"
MISSING_FIELD = "Missing 'id' or 'method' field"
UNKNOWN_METHOD = "Unknown method: "
# In one line.
MOST_VALUES = 10_000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """What is ``asked`` of a method; ``id`` is whatever the client gave, and goes back as it came."""

    id: object
    asked: T


def read_request(line: bytes, methods: Mapping[str, Callable[[object], T]]) -> Request[T] | bytes | None:
    """What a line asks for, or the reply that refuses it, or None for a blank line."""
    line = line.strip()
    if not line:
        return None
    if has_too_many_values(line):
        return error_reply(UNKNOWN_ID, INVALID_JSON)
    try:
        found = _DECODER.decode(line.decode())
    except (ValueError, RecursionError):
        return error_reply(UNKNOWN_ID, INVALID_JSON)
    request = found if isinstance(found, dict) else {}
    id_, method = request.get("id"), request.get("method")
    if not (_is_truthy(id_) and _is_truthy(method)):
        return error_reply(id_ if isinstance(id_, str) else UNKNOWN_ID, MISSING_FIELD)
    read_params = methods.get(method) if isinstance(method, str) else None
    if read_params is None:
        return error_reply(id_, UNKNOWN_METHOD + (method if isinstance(method, str) else _json(method)))
    return Request(id_, read_params(request.get("params")))


def error_reply(id_: object, error: str) -> bytes:
    return reply(id_, {"error": error})


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
