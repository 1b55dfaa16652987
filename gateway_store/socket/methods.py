"""What the gateway's server is asked, by method, and the words of its answers. How they travel is the server's affair.

An answer is what a reply holds beside its id.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic.alias_generators import to_camel

from gateway_store.errors import (
    ContactMissingError,
    ImmutableFieldError,
    InvalidPayloadError,
    MirrorRefusedError,
    NewerPayloadError,
)
from gateway_store.invites.payload import InvitePayload, check_params
from outbox.error_codes import BAD_REQUEST

METHOD = "mirror_invite_create"
PROBE_METHOD = "relay_probe"
"""Ours alone: to the real gateway it is an unknown method, which shows that it answers and no more."""
CLAIM_METHOD = "relay_claim"
"""Ours as well: says whose invites the relay brings."""
IDENTITY = re.compile("[0-9a-f]{32}")
INVALID_PARAMS = "Invalid params: "
NEWER_PAYLOAD = "Newer payload: "
# An id in it may be of any length.
MAX_ERROR = 2_000
FOREIGN_KEY = "FOREIGN KEY constraint failed"


@dataclass(frozen=True, slots=True)
class Probe:
    """A relay that asks whether invites are taken, and which payloads are understood.

    With ``assistant`` it claims the mirror for that assistant's invites, ``take_over`` from another one if need be.
    """

    assistant: str | None = None
    take_over: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """What is asked with params that the method does not take. Not the error itself, which would keep them all."""

    answer: Mapping[str, object]


Asked = InvitePayload | Probe | Refused


def _invite(params: object) -> Asked:
    try:
        return check_params(params)
    except MirrorRefusedError as error:
        return Refused(refusal_answer(error))


def _probe(_params: object) -> Asked:
    return Probe()


def _claim(params: object) -> Asked:
    found = params if isinstance(params, dict) else {}
    assistant = found.get("assistant")
    if not isinstance(assistant, str) or not IDENTITY.fullmatch(assistant):
        issue = {"path": ["assistant"], "code": "type", "message": "no identity"}
        return Refused(refusal_answer(InvalidPayloadError([issue])))
    return Probe(assistant, found.get("takeOver") is True)


METHODS: Mapping[str, Callable[[object], Asked]] = {METHOD: _invite, PROBE_METHOD: _probe, CLAIM_METHOD: _claim}


def result_answer(invite_id: str) -> dict[str, object]:
    return {"result": {"id": invite_id}}


def probe_answer(facts: Mapping[str, object]) -> dict[str, object]:
    return {"result": facts}


def error_answer(error: str) -> dict[str, object]:
    return {"error": error}


def refusal_answer(refusal: MirrorRefusedError) -> dict[str, object]:
    """Refusals that the same invite will meet again read as invalid params, which every client gives up on."""
    match refusal:
        case InvalidPayloadError():
            issues = refusal.issues
        case ImmutableFieldError():
            issues = [
                {"path": [to_camel(name)], "code": "immutable", "message": str(refusal)} for name in refusal.names
            ]
        case ContactMissingError():
            return error_answer(str(refusal)[:MAX_ERROR])
        case NewerPayloadError():
            # Not among the invalid params, on which every client gives the invite up.
            words = f"schema version {refusal.schema_version}, this gateway reads {refusal.reads}"
            return error_answer(NEWER_PAYLOAD + words)
        case _:
            issues = [{"path": [], "code": "refused", "message": str(refusal)}]
    return {**error_answer(INVALID_PARAMS + json.dumps(issues)), **BAD_REQUEST}
