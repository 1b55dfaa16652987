"""The protocol of the gateway's socket: one JSON object a line in, one out. Pure; facts recorded from the real one."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic.alias_generators import to_camel

from gateway_store.errors import (
    ContactMissingError,
    ImmutableFieldError,
    InvalidPayloadError,
    MirrorRefusedError,
    NewerPayloadError,
)
from gateway_store.payload import InvitePayload, check_params, json_number, refuse_constant

METHOD = "mirror_invite_create"
PROBE_METHOD = "relay_probe"
"""Ours alone: to the real gateway it is an unknown method, which shows that it answers and no more."""
CLAIM_METHOD = "relay_claim"
"""Ours as well: says whose invites the relay brings."""
IDENTITY = re.compile("[0-9a-f]{32}")
UNKNOWN_ID = "unknown"
INVALID_JSON = "Invalid JSON"
MISSING_FIELD = "Missing 'id' or 'method' field"
UNKNOWN_METHOD = "Unknown method: "
INVALID_PARAMS = "Invalid params: "
NEWER_PAYLOAD = "Newer payload: "
# An id in it may be of any length.
MAX_ERROR = 2_000
FOREIGN_KEY = "FOREIGN KEY constraint failed"
# In one line.
MOST_VALUES = 10_000


# What JavaScript's `trim` takes off. Python's own idea of space also has U+0085 and U+001C to U+001F, and not U+FEFF.
SPACES = (
    "\t\n\v\f\r \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000\ufeff"
)


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """What an error carries beside its words, so that a client can turn it into an HTTP status."""

    status: int
    name: str

    @property
    def in_json(self) -> str:
        return f',"statusCode":{self.status},"errorCode":"{self.name}"'


BAD_REQUEST = ErrorCode(400, "BAD_REQUEST")
METHOD_NOT_KNOWN = ErrorCode(404, "UNKNOWN_METHOD")


@dataclass(frozen=True, slots=True)
class Request:
    """A request to mirror one invite; ``id`` is whatever the client gave, and goes back as it came."""

    id: object
    invite: InvitePayload


@dataclass(frozen=True, slots=True)
class Probe:
    """A relay that asks whether invites are taken, and which payloads are understood.

    With ``assistant`` it claims the mirror for that assistant's invites, ``take_over`` from another one if need be.
    """

    id: object
    assistant: str | None = None
    take_over: bool = False


def read_request(line: bytes) -> Request | Probe | bytes | None:
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
    if method == PROBE_METHOD:
        return Probe(id_)
    if method == CLAIM_METHOD:
        return _claim(id_, request.get("params"))
    if method != METHOD:
        named = method if isinstance(method, str) else _json(method)
        return error_reply(id_, UNKNOWN_METHOD + named, METHOD_NOT_KNOWN)
    try:
        return Request(id_, check_params(request.get("params")))
    except MirrorRefusedError as error:
        return refusal_reply(id_, error)


def _claim(id_: object, params: object) -> Probe | bytes:
    found = params if isinstance(params, dict) else {}
    assistant = found.get("assistant")
    if not isinstance(assistant, str) or not IDENTITY.fullmatch(assistant):
        return refusal_reply(
            id_, InvalidPayloadError([{"path": ["assistant"], "code": "type", "message": "no identity"}])
        )
    return Probe(id_, assistant, found.get("takeOver") is True)


def result_reply(id_: object, invite_id: str) -> bytes:
    return _line(id_, "result", {"id": invite_id})


def probe_reply(id_: object, facts: Mapping[str, object]) -> bytes:
    return _line(id_, "result", facts)


def error_reply(id_: object, error: str, code: ErrorCode | None = None) -> bytes:
    """``code`` only where the request is at fault: of its own troubles the real gateway gives none either."""
    return _line(id_, "error", error, "" if code is None else code.in_json)


def refusal_reply(id_: object, refusal: MirrorRefusedError) -> bytes:
    """Refusals that the same invite will meet again read as invalid params, which every client gives up on."""
    match refusal:
        case InvalidPayloadError():
            issues = refusal.issues
        case ImmutableFieldError():
            issues = [
                {"path": [to_camel(name)], "code": "immutable", "message": str(refusal)} for name in refusal.names
            ]
        case ContactMissingError():
            return error_reply(id_, str(refusal)[:MAX_ERROR])
        case NewerPayloadError():
            # Not among the invalid params, on which every client gives the invite up.
            words = f"schema version {refusal.schema_version}, this gateway reads {refusal.reads}"
            return error_reply(id_, NEWER_PAYLOAD + words)
        case _:
            issues = [{"path": [], "code": "refused", "message": str(refusal)}]
    return error_reply(id_, INVALID_PARAMS + json.dumps(issues), BAD_REQUEST)


def _line(id_: object, kind: str, value: object, more: str = "") -> bytes:
    return f'{{"id":{_json(id_)},"{kind}":{_json(value)}{more}}}\n'.encode()


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


def _number(digits: str) -> int | float:
    """Far beyond what an integer may be, JSON numbers are read as JavaScript does, so that no length costs time."""
    return int(digits) if len(digits) < 20 else float(digits)


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


# Made once: with any option, json.loads and json.dumps make theirs anew at each call.
_DECODER = json.JSONDecoder(parse_constant=refuse_constant, parse_int=_number, parse_float=json_number)
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
