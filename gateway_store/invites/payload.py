"""The invite as it arrives: JSON in camelCase, checked as the real gateway checks it."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from gateway_store.errors import InvalidPayloadError, NewerPayloadError
from gateway_store.invites.invite import Invite, values_of
from outbox.json_values import as_integer, json_number, refuse_constant
from outbox.schema_version import schema_version

LARGEST_INTEGER = 2**53 - 1
SCHEMA_VERSION = 1
"""The newest version of the payload that is understood here."""

# A NUL cannot be stored by PostgreSQL; a lone surrogate is no text, and pydantic's own check for str refuses it.
Text = Annotated[str, Field(pattern=r"^[^\x00]*$")]
Id = Annotated[Text, Field(min_length=1)]
Integer = Annotated[int, Field(ge=-LARGEST_INTEGER, le=LARGEST_INTEGER)]
MaxUses = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
UseCount = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]
SchemaVersion = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]


class InvitePayload(BaseModel):
    """The whole invite. Unknown keys are ignored, and an absent optional equals null."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        alias_generator=AliasGenerator(validation_alias=to_camel, serialization_alias=to_camel),
    )

    id: Id
    source_channel: Text
    token_hash: Text = Field(repr=False)
    source_conversation_id: Text | None = None
    note: Text | None = None
    max_uses: MaxUses
    use_count: UseCount
    expires_at: Integer
    status: Literal["active", "redeemed", "revoked", "expired"]
    redeemed_by_external_user_id: Text | None = None
    redeemed_by_external_chat_id: Text | None = None
    redeemed_at: Integer | None = None
    expected_external_user_id: Text | None = None
    voice_code_hash: Text | None = Field(default=None, repr=False)
    voice_code_digits: Integer | None = None
    invite_code_hash: Text | None = Field(default=None, repr=False)
    friend_name: Text | None = None
    guardian_name: Text | None = None
    contact_id: Id
    created_at: Integer
    updated_at: Integer
    schema_version: SchemaVersion | None = None
    """Absent or null: 1."""

    def invite(self) -> Invite:
        return Invite._make(values_of(self))


def check_params(params: object) -> InvitePayload:
    """The params of a request, JSON already read: camelCase only, as the real gateway has it.

    Raises `NewerPayloadError` or `InvalidPayloadError`.
    """
    _refuse_newer(params, "schemaVersion")
    try:
        return InvitePayload.model_validate(params)
    except ValidationError as error:
        raise InvalidPayloadError(_issues(error)) from None


def parse_payload(payload: "str | Mapping[str, Any] | InvitePayload") -> Invite:
    """The invite in JSON text, in a model, or in a dict, whose keys may also be the columns' names.

    Raises `NewerPayloadError` where it is of a later version, and `InvalidPayloadError` where it is none.
    """
    if isinstance(payload, InvitePayload):
        _refuse_newer({"schemaVersion": payload.schema_version}, "schemaVersion")
        return payload.invite()
    if isinstance(payload, str):
        return _plainly(payload) or check_params(_loads(payload)).invite()
    given = _with_integers(payload)
    _refuse_newer(given, "schemaVersion", "schema_version")
    try:
        return InvitePayload.model_validate(given, by_alias=True, by_name=True).invite()
    except ValidationError as error:
        raise InvalidPayloadError(_issues(error)) from None


def _refuse_newer(given: object, *names: str) -> None:
    """Before anything else is judged: what a later version means by its fields is not known here, so a status or a
    type that looks wrong may be right, and a field passed over as unknown may be what matters."""
    for said in (given.get(name) for name in names) if isinstance(given, Mapping) else ():
        version = schema_version(said)
        if version is not None and version > SCHEMA_VERSION:
            raise NewerPayloadError(version, SCHEMA_VERSION)


def _plainly(payload: str) -> Invite | None:
    """The invite if it is said plainly, as the assistant's store does; anything else is for `_loads` to read.

    Each pair has its colon. As many as there are known keys: no key is given twice, and none is unknown.
    """
    try:
        found = InvitePayload.model_validate_json(payload)
    except ValidationError:
        return None
    if found.schema_version not in (SCHEMA_VERSION, None) or payload.count(":") != len(found.model_fields_set):
        return None
    return found.invite()


def _loads(payload: str) -> Any:
    try:
        return _DECODER.decode(payload)
    except (ValueError, RecursionError) as error:
        kind = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidPayloadError([{"path": [], "code": "invalid_json", "message": f"not JSON: {kind}"}]) from None


def _with_integers(given: object) -> object:
    if not isinstance(given, Mapping):
        return given
    return {key: as_integer(value) if isinstance(value, float) else value for key, value in given.items()}


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice, and readers differ on which value counts")
    return found


_DECODER = json.JSONDecoder(parse_float=json_number, parse_constant=refuse_constant, object_pairs_hook=_object)


def _issues(error: ValidationError) -> list[dict[str, Any]]:
    return [
        {"path": list(one["loc"]), "code": one["type"], "message": one["msg"]}
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
