"""The rules for a new invite, checked before anything is written."""

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from assistant_store.errors import InvalidInviteError

VOICE_CHANNEL = "phone"
LARGEST_INTEGER = 2**53 - 1
# Nine such fields, each character escaped to 12 bytes, stay below the 4 MiB that one line of the socket may have.
MAX_TEXT = 16_384

_E164 = re.compile(r"\+[0-9]{10,15}")


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Text = Annotated[str, Field(max_length=MAX_TEXT)]


def _trimmed(text: str) -> str:
    # " phone" would pass for a channel of its own and get a token where a voice invite must not.
    if text != text.strip():
        raise ValueError("must not begin or end with a space")
    return text


RequiredText = Annotated[Text, AfterValidator(_not_blank)]


class InviteRequest(BaseModel):
    """What `create_invite` was asked for."""

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    source_channel: Annotated[RequiredText, AfterValidator(_trimmed)]
    contact_id: RequiredText
    note: Text | None
    max_uses: Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
    expires_in: Annotated[timedelta, Field(ge=timedelta(milliseconds=1))]
    source_conversation_id: Text | None
    expected_external_user_id: Text | None
    friend_name: Text | None
    guardian_name: Text | None

    @property
    def is_voice(self) -> bool:
        return self.source_channel == VOICE_CHANNEL

    @model_validator(mode="after")
    def _voice_rules(self) -> Self:
        if not self.is_voice:
            return self
        if self.expected_external_user_id is None or not _E164.fullmatch(self.expected_external_user_id):
            raise ValueError("expected_external_user_id must be E.164, such as +15551234567, for a phone invite")
        for name in ("friend_name", "guardian_name"):
            if not (getattr(self, name) or "").strip():
                raise ValueError(f"{name} is required and must not be blank for a phone invite")
        return self


def checked_request(**values: object) -> InviteRequest:
    """The request, or `InvalidInviteError` that names each field at fault, never its value."""
    refuse_unstorable("create the invite", **values)
    try:
        return InviteRequest.model_validate(values)
    except ValidationError as error:
        raise InvalidInviteError(f"cannot create the invite: {_in_words(error)}") from None


def refuse_unstorable(doing: str, **values: object) -> None:
    """PostgreSQL cannot store such text: it would lie in the outbox and be refused for ever."""
    for name, value in values.items():
        if not isinstance(value, str):
            continue
        if "\x00" in value:
            raise InvalidInviteError(f"cannot {doing}: {name} must not contain a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise InvalidInviteError(f"cannot {doing}: {name} must not contain a lone surrogate")
        if len(value) > MAX_TEXT:
            raise InvalidInviteError(f"cannot {doing}: {name} must have at most {MAX_TEXT} characters")


def _in_words(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip().replace("Value error, ", "")
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    )
