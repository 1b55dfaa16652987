"""The table of answers, to the letter: what each kind of request gets, and that none of them ends the connection."""

import json
from typing import Any

import pytest

from tests.conftest import rows
from tests.socket.clients import (
    BAD_REQUEST,
    METHOD,
    NO_SUCH_METHOD,
    NO_SUCH_METHOD_BYTES,
    answers,
    ask,
    connect,
    line,
    params,
)
from tests.socket.conftest import Served

INVALID_PARAMS = "Invalid params: "
MISSING = "Missing 'id' or 'method' field"
PROBE = b'{"id":"probe","method":"zz"}\n'
NOT_READ = {"id": "unknown", "error": "Invalid JSON"} | BAD_REQUEST
DEEP = 100_000

NOT_JSON = {
    "words": b"hello",
    "cut off": b'{"id":"1"',
    "a comma too many": b'{"id":"1","method":"m",}',
    "single quotes": b"{'id':'1'}",
    "two values": b'{"id":"1"} {"id":"2"}',
    "NaN": b'{"id":"1","method":"mirror_invite_create","params":{"maxUses":NaN}}',
    "NaN as id": b'{"id":NaN,"method":"m"}',
    "infinity": b'{"id":"1","method":"m","params":-Infinity}',
    "a leading zero": b'{"id":01,"method":"m"}',
    "a raw control character": b'{"id":"\x01","method":"m"}',
    "no UTF-8": b'{"id":"\xff","method":"m"}',
    "a UTF-8 surrogate": b'{"id":"\xed\xa0\x80","method":"m"}',
    "UTF-16": '{"id":"1","method":"m"}'.encode("utf-16-be"),
    "nested lists": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"id":"1","method":"m","params":' + b'{"a":' * DEEP + b"1" + b"}" * (DEEP + 1),
}

NO_ID_OR_METHOD = {
    b"{}": "unknown",
    b"[]": "unknown",
    b'["id","method"]': "unknown",
    b'"id method"': "unknown",
    b"42": "unknown",
    b"true": "unknown",
    b"null": "unknown",
    b'{"method":"m"}': "unknown",
    b'{"id":null,"method":"m"}': "unknown",
    b'{"id":0,"method":"m"}': "unknown",
    b'{"id":-0.0,"method":"m"}': "unknown",
    b'{"id":1e-400,"method":"m"}': "unknown",
    b'{"id":false,"method":"m"}': "unknown",
    b'{"id":"","method":"m"}': "",
    b'{"id":"7"}': "7",
    b'{"id":"7","method":null}': "7",
    b'{"id":"7","method":0}': "7",
    b'{"id":"7","method":false}': "7",
    b'{"id":"7","method":""}': "7",
    b'{"id":42,"method":""}': "unknown",
    b'{"ID":"7","METHOD":"m"}': "unknown",
}

TRUTHY = ["1", "é😀", "\ud800", "0", 42, -1, 1.5, 2**53, True, {"a": 1}, {}, [], [None]]
NO_OBJECT = ["", ',"params":null', ',"params":[]', ',"params":"x"', ',"params":1', ',"params":true']
NO_INTEGER = ["true", "1.5", '"1"', "9007199254740992", "1" + "0" * 30, "9" * 5000, "1e400", "-1e400"]
OUT_OF_BOUNDS = [("status", "done"), ("maxUses", 0), ("useCount", -1), ("id", ""), ("note", 1)]


def answer(shared: Served, data: bytes) -> dict[str, Any]:
    """The only answer to a line, after which the connection is seen to be as usable as before."""
    with connect(shared.stores) as client:
        client.sendall(data.rstrip(b"\n") + b"\n" + PROBE)
        found, after = answers(client, 2)
    assert after == {"id": "probe", "error": "Unknown method: zz"} | NO_SUCH_METHOD
    return found


def with_raw(name: str, raw: str, **other: Any) -> bytes:
    """A request with a value in it that no Python value turns into."""
    return line("1", given=params(**{name: "@raw"}, **other)).replace(b'"@raw"', raw.encode())


def refused_paths(found: dict[str, Any]) -> list[list[Any]]:
    assert found["error"].startswith(INVALID_PARAMS)
    assert found.items() >= BAD_REQUEST.items()
    return [issue["path"] for issue in json.loads(found["error"].removeprefix(INVALID_PARAMS))]


@pytest.mark.parametrize("data", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_answered_with_an_unknown_id(shared: Served, data: bytes) -> None:
    assert answer(shared, data) == NOT_READ


@pytest.mark.parametrize(("data", "id_"), NO_ID_OR_METHOD.items())
def test_a_falsy_id_or_method_is_missing_and_a_string_id_is_echoed(shared: Served, data: bytes, id_: str) -> None:
    assert answer(shared, data) == {"id": id_, "error": MISSING} | BAD_REQUEST


@pytest.mark.parametrize("id_", TRUTHY, ids=repr)
def test_a_truthy_id_is_echoed_as_it_is(shared: Served, id_: object) -> None:
    found = answer(shared, line(id_))
    assert (found, type(found["id"])) == ({"id": id_, "result": {"id": "inv-1"}}, type(id_))


@pytest.mark.parametrize("raw", [b"1e400", b"[1e400]", b"9" * 400], ids=["large", "large in a list", "400 digits"])
def test_an_id_that_json_cannot_say_is_answered_with_null(shared: Served, raw: bytes) -> None:
    found = answer(shared, b'{"id":' + raw + b',"method":"zz"}')
    assert found == {"id": None, "error": "Unknown method: zz"} | NO_SUCH_METHOD


def test_an_id_of_any_depth_is_answered_and_the_server_lives(shared: Served) -> None:
    # What can just be read may be too deep to be written: it depends on how deep the reader and the writer stand.
    ids = [b"[" * depth + b"]" * depth for depth in range(900, 1000)]
    with connect(shared.stores) as client:
        client.sendall(b"".join(b'{"id":' + id_ + b',"method":"zz"}\n' for id_ in ids))
        with client.makefile("rb") as replies:
            for id_ in ids:
                reply, tail = replies.readline(), b',"error":"Unknown method: zz"' + NO_SUCH_METHOD_BYTES
                not_read = json.dumps(NOT_READ, separators=(",", ":")).encode() + b"\n"
                assert reply in [b'{"id":' + id_ + tail, b'{"id":null' + tail, not_read]
        client.sendall(line("after"))
        assert answers(client, 1) == [{"id": "after", "result": {"id": "inv-1"}}]


@pytest.mark.parametrize("method", ["zz", METHOD + " ", METHOD.upper(), "é\ud800", "__proto__"])
def test_an_unknown_method_is_named(shared: Served, method: str) -> None:
    assert answer(shared, line("1", method)) == {"id": "1", "error": f"Unknown method: {method}"} | NO_SUCH_METHOD


@pytest.mark.parametrize("method", [42, True, {}, [], {"a": 1}, [METHOD]], ids=repr)
def test_a_method_that_is_no_string_is_unknown(shared: Served, method: object) -> None:
    named = json.dumps(method, separators=(",", ":"))
    found = answer(shared, line(["x"], method))
    assert found == {"id": ["x"], "error": f"Unknown method: {named}"} | NO_SUCH_METHOD


@pytest.mark.parametrize("tail", NO_OBJECT)
def test_params_that_are_no_object_are_refused_as_a_whole(shared: Served, tail: str) -> None:
    assert refused_paths(answer(shared, f'{{"id":"1","method":"{METHOD}"{tail}}}'.encode())) == [[]]


def test_every_required_field_that_is_missing_is_named(shared: Served) -> None:
    required = [name for name in params() if name != "inviteCodeHash"]
    assert refused_paths(answer(shared, line(given={}))) == [[name] for name in required]


def test_a_number_without_a_fraction_is_an_integer_however_it_is_written(shared: Served) -> None:
    data = with_raw("maxUses", "3.0", id="float", useCount=-0.0, expiresAt=1.795e12)
    assert answer(shared, data) == {"id": "1", "result": {"id": "float"}}
    (row,) = rows(shared.stores.mirror, "SELECT * FROM ingress_invites WHERE id = 'float'")
    stored = [row["max_uses"], row["use_count"], row["expires_at"]]
    assert (stored, {type(one) for one in stored}) == ([3, 0, 1_795_000_000_000], {int})


@pytest.mark.parametrize("name", ["maxUses", "useCount", "expiresAt", "redeemedAt", "voiceCodeDigits", "createdAt"])
@pytest.mark.parametrize("raw", NO_INTEGER)
def test_what_is_no_safe_integer_is_refused_by_name(shared: Served, name: str, raw: str) -> None:
    assert refused_paths(answer(shared, with_raw(name, raw, id="never"))) == [[name]]
    assert shared.stores.mirrored("never") is None


def test_a_megabyte_of_digits_is_refused_like_any_number_too_large(shared: Served) -> None:
    assert refused_paths(answer(shared, with_raw("maxUses", "9" * 2**20, id="never"))) == [["maxUses"]]


@pytest.mark.parametrize("bad", ["\\u0000", "a\\u0000b", "\\ud800", "\\udc00\\ud800"])
@pytest.mark.parametrize("name", ["id", "note", "contactId", "tokenHash", "friendName"])
def test_text_that_no_database_could_keep_is_refused_by_name(shared: Served, name: str, bad: str) -> None:
    assert refused_paths(answer(shared, with_raw(name, f'"{bad}"'))) == [[name]]


@pytest.mark.parametrize(("name", "value"), OUT_OF_BOUNDS)
def test_a_value_out_of_bounds_is_refused_by_name(shared: Served, name: str, value: object) -> None:
    assert refused_paths(answer(shared, line(given=params(**{name: value})))) == [[name]]


def test_of_a_key_given_twice_the_last_counts(shared: Served) -> None:
    data = with_raw("note", '"first","note":"last"', id="first").replace(b'"id": "first"', b'"id":"first","id":"last"')
    assert answer(shared, data.replace(b'{"id": "1"', b'{"id":"0","id":"1"')) == {"id": "1", "result": {"id": "last"}}
    found = rows(shared.stores.mirror, "SELECT id, note FROM ingress_invites WHERE id IN ('first', 'last')")
    assert found == [{"id": "last", "note": "last"}]


def test_unknown_keys_are_ignored(shared: Served) -> None:
    request = {"id": "1", "method": METHOD, "jsonrpc": "2.0", "params": params(id="extra", extra={"a": [1]})}
    assert answer(shared, json.dumps(request).encode()) == {"id": "1", "result": {"id": "extra"}}


def test_snake_case_keys_are_unknown_keys(shared: Served) -> None:
    given = params(source_channel="telegram", friend_name="Ada", id="snake")
    assert answer(shared, line(given=given)) == {"id": "1", "result": {"id": "snake"}}
    kept = shared.stores.mirrored("snake")
    assert kept is not None
    assert kept.friend_name is None
    del given["sourceChannel"]
    assert refused_paths(answer(shared, line(given=given))) == [["sourceChannel"]]


def test_an_absent_optional_equals_null(shared: Served) -> None:
    optional = ["note", "redeemedAt", "voiceCodeDigits", "friendName", "inviteCodeHash"]
    given = {name: value for name, value in params(id="absent").items() if name != "inviteCodeHash"}
    answer(shared, line(given=given))
    absent = shared.stores.mirrored("absent")
    # The same contents again: had null been another value than absence, this would be refused or change the row.
    again = answer(shared, line(given=given | dict.fromkeys(optional)))
    assert again == {"id": "1", "result": {"id": "absent"}}
    assert absent is not None
    assert absent.invite_code_hash is None
    assert shared.stores.mirrored("absent") == absent


@pytest.mark.parametrize("name", ["sourceChannel", "tokenHash", "inviteCodeHash", "maxUses"])
def test_another_value_of_an_immutable_field_is_refused_by_name(shared: Served, name: str) -> None:
    ask(shared.stores, line(given=params(id="fixed")))
    other: Any = 9 if name == "maxUses" else "00" * 32
    assert refused_paths(answer(shared, line(given=params(id="fixed", **{name: other})))) == [[name]]


def test_an_unknown_contact_is_a_broken_foreign_key(shared: Served) -> None:
    found = answer(shared, line("fk", given=params(id="orphan", contactId="nobody")))
    assert (found["id"], "FOREIGN KEY constraint failed" in found["error"]) == ("fk", True)
    assert shared.stores.mirrored("orphan") is None


@pytest.mark.parametrize("other", [{}, {"grade": "gold"}, {"status": "suspended"}, {"maxUses": "unlimited"}, {"id": 7}])
@pytest.mark.parametrize("version", [2, 2.0, 17])
def test_a_newer_payload_is_no_invalid_one_and_says_which_version_is_read(
    shared: Served, version: float, other: dict[str, Any]
) -> None:
    found = answer(shared, line(given=params(id="newer") | other | {"schemaVersion": version}))
    words = f"Newer payload: schema version {int(version)}, this gateway reads 1"
    assert found == {"id": "1", "error": words}
    assert shared.stores.mirrored("newer") is None


@pytest.mark.parametrize("version", [1, 1.0, None])
def test_a_payload_of_this_version_is_mirrored(shared: Served, version: float | None) -> None:
    given = params(id=f"version-{version}", schemaVersion=version)
    assert answer(shared, line(given=given)) == {"id": "1", "result": {"id": given["id"]}}


@pytest.mark.parametrize("version", [0, -1, 1.5, "1", True, [], 2**53])
def test_what_is_no_version_is_refused_by_name(shared: Served, version: object) -> None:
    assert refused_paths(answer(shared, line(given=params(schemaVersion=version)))) == [["schemaVersion"]]


@pytest.mark.parametrize("id_", ["probe", 7, {"a": 1}], ids=repr)
@pytest.mark.parametrize("given", [None, {}, {"anything": 1}], ids=repr)
def test_a_probe_is_told_which_payloads_are_read(shared: Served, id_: object, given: object) -> None:
    data = json.dumps({"id": id_, "method": "relay_probe", "params": given}).encode()
    found = answer(shared, data)
    assert (found["id"], found["result"]["schemaVersion"]) == (id_, 1)
    assert found["result"].keys() == {"schemaVersion", "identity", "drainedFrom", "batches"}


@pytest.mark.parametrize("params", [None, {}, {"assistant": 1}, {"assistant": "x"}, {"assistant": "é" * 32}], ids=repr)
def test_a_claim_for_nobody_is_refused(shared: Served, params: object) -> None:
    data = json.dumps({"id": "1", "method": "relay_claim", "params": params}).encode()
    assert refused_paths(answer(shared, data)) == [["assistant"]]


@pytest.mark.parametrize("method", ["relay_probe ", "Relay_probe", ["relay_probe"]], ids=repr)
def test_what_is_nearly_a_probe_is_an_unknown_method(shared: Served, method: object) -> None:
    assert answer(shared, line("1", method))["error"].startswith("Unknown method: ")
