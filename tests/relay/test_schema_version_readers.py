"""What a schemaVersion says is read alike by all who read it: in the database, before sending, and at the gateway."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway_store import SCHEMA_VERSION, InvalidPayloadError, MirrorRefusedError, NewerPayloadError
from gateway_store.invites.payload import parse_payload
from gateway_store.socket.methods import METHODS, Refused
from outbox import Destination, Outcome, Verdict, reading, statements
from outbox.message import SHARDS
from outbox.schema_version import schema_version_of
from outbox.statements import NewerThan
from outbox.statements.schema_version import version_of_payload
from relay.deliver import delivery_of
from relay.destinations.socket_protocol import request_line
from relay.serve.wire import Request, read_request
from relay.undeliverable import why_undeliverable
from tests.conftest import Stores, message_of, write
from tests.relay.rig import drain_all, draining
from tests.socket.clients import params
from tests.socket.test_client import message

LARGEST = 2**53 - 1
# As it stands in the payload, and the version that it is; None where it is none.
SAID: dict[str, int | None] = {
    "null": 1,
    "1": 1,
    "1.0": 1,
    "10e-1": 1,
    "2": 2,
    "2.0": 2,
    "2e0": 2,
    "0.2E+1": 2,
    "7": 7,
    "1e15": 10**15,
    str(LARGEST): LARGEST,
    f"{LARGEST}.0": LARGEST,
    "0": None,
    "-0": None,
    "-1": None,
    "-2.0": None,
    "0.5": None,
    "1.5": None,
    "2.5": None,
    str(2**53): None,
    str(2**53 + 1): None,
    f"{2**53}.0": None,
    str(2**63 - 1): None,
    str(2**64): None,
    "9" * 400: None,
    "9" * 5_000: None,
    "1e16": None,
    "1e308": None,
    "1e400": None,
    "-1e400": None,
    "1e-400": None,
    "1e200000": None,
    "true": None,
    "false": None,
    '"2"': None,
    '"1"': None,
    '""': None,
    "[]": None,
    "[2]": None,
    "{}": None,
    '{"schemaVersion":2}': None,
}
# Whole payloads in which it stands oddly, before the rest of an invite; and their version.
PLACED: dict[str, int | None] = {
    '"schema\\u0056ersion":2': 2,
    '"schemaVersion" : 2': 2,
    '"schemaVersion"\n:\n2': 2,
    '"x":{"schemaVersion":3}': 1,
    '"x":{"schemaVersion":3},"schemaVersion":2': 2,
    '"schemaVersion":2,"x":{"schemaVersion":1}': 2,
    '"x":[{"schemaVersion":3}],"schemaVersion":1': 1,
    '"x":"\\"schemaVersion\\":2"': 1,
    '"x":"schemaVersion","schemaVersion":2': 2,
    '"schemaversion":2': 1,
    '"schemaVersion":2,"x":"\\u0000\\ud800"': 2,
    '"schemaVersion":2,"x":1e200000': 2,
    '"schemaVersion":2,"schemaVersion":1': None,
    '"schemaVersion":1,"schemaVersion":2': None,
    '"schemaVersion":2,"schema\\u0056ersion":3': None,
}
ALL = {f'"schemaVersion":{said}': version for said, version in SAID.items()} | PLACED
# At an odd place a gateway of this release can refuse the payload for another reason.
SIMPLE = {said: version for said, version in ALL.items() if said not in PLACED}
NO_OBJECT = ["", "[]", "2", '"schemaVersion"', '["schemaVersion",2]', "{", '{"schemaVersion":2', '{"schemaVersion":02}']
NO_OBJECT += ['{"schemaVersion":2,"x":NaN}', '{"schemaVersion":NaN}', '{"schemaVersion":Infinity}', "null"]


def payload(said: str, key: str = "inv-1") -> str:
    return f'{{"id":"{key}",{said},{json.dumps({k: v for k, v in params().items() if k != "id"})[1:]}'


@contextmanager
def holding(stores: Stores, payloads: list[str]) -> Iterator[list[int]]:
    """The ``seq`` of a message each."""
    for number, one in enumerate(payloads):
        stores.create()
        write(
            stores.source,
            "UPDATE outbox_messages SET payload = :p, key = :k WHERE seq = (SELECT max(seq) FROM outbox_messages)",
            p=one,
            k=f"k-{number}",
        )
    yield [row["seq"] for row in stores.messages()]


def read_but_newer_than(stores: Stores, reads: int) -> set[int]:
    with reading(stores.source) as connection:
        left = [NewerThan("invite.mirror", reads)]
        found = statements.pending(connection, Destination.GATEWAY, range(SHARDS), 1_000, 10**9, but=left)
    return {one.seq for one in found.messages}


def seqs_up_to(versions: dict[int, int], reads: int) -> set[int]:
    return {seq for seq, version in versions.items() if version <= reads}


def test_sql_leaves_out_exactly_what_is_newer_by_the_rule(stores: Stores) -> None:
    payloads = [payload(said) for said in ALL] + NO_OBJECT
    expected = [version or 1 for version in ALL.values()] + [1] * len(NO_OBJECT)
    with holding(stores, payloads) as seqs:
        versions = dict(zip(seqs, expected, strict=True))
        for reads in (1, 2, 6, 7, 10**15 - 1, 10**15, LARGEST - 1, LARGEST):
            assert read_but_newer_than(stores, reads) == seqs_up_to(versions, reads), reads


@pytest.mark.only("postgresql", because="its releases before 16 cannot tell JSON from other text")
def test_a_server_before_16_reads_a_version_that_is_written_plainly(stores: Stores) -> None:
    said = {one: version for one, version in SIMPLE.items() if one.count("{") == 0 and not set(one[16:]) & set("eE.")}
    assert {1, 2, LARGEST, None} <= set(said.values())
    with holding(stores, [payload(one) for one in said] + NO_OBJECT[:6]) as seqs:
        versions = dict(zip(seqs, [version or 1 for version in said.values()] + [1] * 6, strict=True))
        stores.source.dialect.server_version_info = (15, 4)
        with reading(stores.source) as connection:
            assert "pg_input_is_valid" not in version_of_payload(connection), "a function that it does not have"
        for reads in (1, 2, LARGEST - 1):
            assert read_but_newer_than(stores, reads) == seqs_up_to(versions, reads), reads


@pytest.mark.parametrize(("said", "version"), ALL.items())
def test_the_relay_reads_it_by_the_rule(said: str, version: int | None) -> None:
    assert schema_version_of(payload(said)) == (version or 1)
    one = message(payload=payload(said))
    assert (why_undeliverable(one) is None) == (version is not None)
    if version is None:
        assert "schemaVersion" in (why_undeliverable(one) or "")


@pytest.mark.parametrize("text", NO_OBJECT)
def test_what_is_no_object_is_nothing_newer(text: str) -> None:
    assert schema_version_of(text) == 1


@pytest.mark.parametrize(("said", "version"), SIMPLE.items())
def test_the_client_of_a_socket_reads_it_by_the_rule(said: str, version: int | None) -> None:
    line = request_line(delivery_of(message(payload=payload(said))), "1", 2)
    outcome = line.outcome if isinstance(line, Verdict) else None
    if version is None:
        assert outcome is Outcome.REFUSED_FOR_GOOD
    else:
        assert outcome is (Outcome.TOPIC_CLOSED if version > 2 else None)


@pytest.mark.parametrize(("said", "version"), SIMPLE.items())
def test_a_gateway_reads_it_by_the_rule(said: str, version: int | None) -> None:
    kind: type[MirrorRefusedError] | None = None
    if version is None:
        kind = InvalidPayloadError
    elif version > SCHEMA_VERSION:
        kind = NewerPayloadError
    assert refusal_of(lambda: parse_payload(payload(said))) is kind
    request = read_request(f'{{"id":"1","method":"mirror_invite_create","params":{payload(said)}}}'.encode(), METHODS)
    assert isinstance(request, Request)
    assert isinstance(request.asked, Refused) == (kind is not None)
    if isinstance(request.asked, Refused):
        assert ("Newer payload" in str(request.asked.answer["error"])) == (kind is NewerPayloadError)


def refusal_of(read: Any) -> type[Exception] | None:
    try:
        read()
    except MirrorRefusedError as error:
        return type(error)
    return None


@pytest.mark.parametrize("said", ["1e400", "2.5", str(2**53), "true", '"2"', "0"])
def test_a_message_that_has_no_version_is_dead_with_the_reason_and_holds_up_no_other(stores: Stores, said: str) -> None:
    """Nor is an older message of its key delivered in its place, which would show an outdated invite."""
    invite = stores.create(max_uses=3).invite
    stores.revoke(invite.id)
    other = stores.create().invite
    first, last = stores.messages()[:2]
    odd = str(last["payload"]).replace('"schemaVersion":1', f'"schemaVersion":{said}')
    assert odd != last["payload"]
    write(stores.source, "UPDATE outbox_messages SET payload = :p WHERE seq = :s", p=odd, s=last["seq"])
    with draining(stores) as drain:
        drain_all(drain)
    assert stores.states() == ["dead", "dead", "delivered"]
    reasons = [row["last_error"] for row in stores.messages()]
    assert "no version: it must be an integer from 1 to 2^53-1" in reasons[1]
    assert f"message {last['seq']} of the same key is newer and dead" in reasons[0]
    assert stores.mirrored(invite.id) is None
    assert stores.mirrored(other.id) is not None
    assert message_of(first).key == invite.id
