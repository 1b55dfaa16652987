"""A payload of a later version is told from one that is wrong, before anything of it is judged or written."""

import json
from typing import Any

import pytest
from sqlalchemy import Engine

from assistant_store.invites.invite import SCHEMA_VERSION as WRITTEN
from gateway_store import (
    SCHEMA_VERSION,
    InvalidPayloadError,
    InvitePayload,
    MirrorOutcome,
    MirrorRefusedError,
    NewerPayloadError,
)
from gateway_store.invites.mirror import mirror_and_commit
from gateway_store.invites.payload import parse_payload
from tests.gateway_store.examples import RECORDED, REDEEMED, deliver, invite, payload, stored
from tests.gateway_store.test_mirror_batch import ids, verdicts

NEWER = [2, 3, 2.0, 2e3, 2**53 - 1]
WRONG = [0, -1, 1.5, 2.5, "1", "2", True, False, [], {}, [2], 2**53, 10**30, 1e300]
LATER: dict[str, dict[str, Any]] = {
    "nothing else": {},
    "a new field": {"grade": "gold"},
    "a new status": {"status": "suspended"},
    "a field of another type": {"maxUses": "unlimited"},
    "a field beyond its bounds": {"useCount": -1},
    "a field that may be null by then": {"contactId": None},
    "another id": {"id": {"shard": 1, "number": 2}},
}


def as_text(given: dict[str, Any]) -> str:
    return json.dumps(given)


def test_both_stores_speak_the_same_version() -> None:
    assert WRITTEN == SCHEMA_VERSION == 1


@pytest.mark.parametrize("form", [dict, as_text])
@pytest.mark.parametrize("version", NEWER)
def test_a_later_version_is_newer_and_not_invalid(version: float, form: Any) -> None:
    words = rf"^newer than this gateway: schema version {int(version)}, this gateway reads 1; upgrade the gateway$"
    with pytest.raises(NewerPayloadError, match=words) as refused:
        parse_payload(form(RECORDED | {"schemaVersion": version}))
    assert isinstance(refused.value, MirrorRefusedError)
    assert (refused.value.schema_version, refused.value.reads) == (version, 1)


@pytest.mark.parametrize("form", [dict, as_text])
@pytest.mark.parametrize("change", LATER.values(), ids=LATER)
def test_nothing_else_of_a_newer_payload_is_judged(change: dict[str, Any], form: Any) -> None:
    with pytest.raises(NewerPayloadError):
        parse_payload(form(RECORDED | change | {"schemaVersion": 2}))


def test_a_newer_payload_without_any_known_field_is_newer() -> None:
    with pytest.raises(NewerPayloadError):
        parse_payload('{"schemaVersion":2}')


def test_a_newer_payload_is_newer_under_the_columns_name_and_as_a_model() -> None:
    with pytest.raises(NewerPayloadError):
        parse_payload({"schema_version": 2, "source_channel": "telegram"})
    with pytest.raises(NewerPayloadError):
        parse_payload({"schemaVersion": 1, "schema_version": 2})
    with pytest.raises(NewerPayloadError):
        parse_payload(InvitePayload.model_validate(RECORDED | {"schemaVersion": 2}))


@pytest.mark.parametrize("form", [dict, as_text])
@pytest.mark.parametrize("version", [1, 1.0, None])
def test_this_version_however_it_is_said_is_read(version: float | None, form: Any) -> None:
    assert parse_payload(form(RECORDED | {"schemaVersion": version})) == parse_payload(form(RECORDED)) == invite()


@pytest.mark.parametrize("form", [dict, as_text])
@pytest.mark.parametrize("version", WRONG, ids=repr)
def test_what_is_no_version_is_invalid_by_name(version: object, form: Any) -> None:
    with pytest.raises(InvalidPayloadError) as refused:
        parse_payload(form(RECORDED | {"schemaVersion": version}))
    assert [issue["path"] for issue in refused.value.issues] == [["schemaVersion"]]


def test_of_two_versions_in_one_payload_none_counts() -> None:
    twice = json.dumps(RECORDED | {"schemaVersion": 2})[:-1] + ', "schemaVersion": 1}'
    with pytest.raises(InvalidPayloadError, match="a key is given twice"):
        parse_payload(twice)


@pytest.mark.parametrize("form", [dict, as_text])
def test_at_this_version_an_unknown_field_is_ignored_and_a_wrong_one_invalid(form: Any) -> None:
    assert parse_payload(form(RECORDED | {"schemaVersion": 1, "grade": "gold"})) == invite()
    with pytest.raises(InvalidPayloadError):
        parse_payload(form(RECORDED | {"schemaVersion": 1, "status": "suspended"}))


def test_a_newer_payload_in_a_batch_is_refused_alone_and_writes_nothing(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    batch: list[Any] = [payload(id="a"), as_text(REDEEMED | {"schemaVersion": 2, "grade": "gold"}), payload(id="b")]

    assert verdicts(mirror, batch) == ["created", NewerPayloadError, "created"]
    assert (stored(mirror), ids(mirror)) == (invite(), ["a", "b", "rec-16197"])

    first, newer, last = mirror_and_commit(mirror, batch)
    assert isinstance(first, MirrorOutcome)
    assert isinstance(newer, NewerPayloadError)
    assert isinstance(last, MirrorOutcome)
    assert stored(mirror) == invite()
