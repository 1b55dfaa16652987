"""Bytes into lines: however they arrive, each line is one request, and its answer comes in its place."""

import json
import socket
from typing import Any

import pytest

from tests.conftest import rows
from tests.socket.clients import BAD_REQUEST, METHOD, NO_SUCH_METHOD, answers, ask, connect, line, params
from tests.socket.conftest import Served
from tests.socket.waiting import until_closed, until_taken


def result(request_id: str, invite_id: str) -> dict[str, Any]:
    return {"id": request_id, "result": {"id": invite_id}}


@pytest.mark.parametrize("end", [b"\r\n", b" \r\n", b"\t \n", b"\n\n\r\n \n"], ids=repr)
def test_carriage_returns_blank_lines_and_spaces_around_a_request_do_not_matter(shared: Served, end: bytes) -> None:
    data = b"\n \r\n  " + line("a").rstrip() + end + b"\t" + line("b").rstrip() + end
    assert ask(shared.stores, data, 2) == [result("a", "inv-1"), result("b", "inv-1")]


# As JavaScript's `trim` has it.
SPACES = "\t\v\f\r \u00a0\u1680\u2000\u2003\u200a\u2028\u2029\u202f\u205f\u3000\ufeff"
NO_SPACES = "\u0085\x1c\x1d\x1e\x1f\u180e\u200b\u2060"


@pytest.mark.parametrize("space", SPACES, ids=ascii)
def test_what_javascript_trims_does_not_matter_around_a_request(shared: Served, space: str) -> None:
    around = space.encode()
    data = around + b"\n" + around * 2 + line("a").rstrip() + around + b"\n" + line("b")
    assert ask(shared.stores, data, 2) == [result("a", "inv-1"), result("b", "inv-1")]


@pytest.mark.parametrize("no_space", NO_SPACES, ids=ascii)
def test_what_only_looks_like_a_space_makes_a_line_no_json(shared: Served, no_space: str) -> None:
    data = no_space.encode() + line("a") + no_space.encode() + b"\n"
    assert ask(shared.stores, data, 2) == [{"id": "unknown", "error": "Invalid JSON"} | BAD_REQUEST] * 2


def test_a_last_line_without_its_newline_is_dropped_at_the_end(shared: Served) -> None:
    with connect(shared.stores) as client:
        client.sendall(line("whole") + line("cut", given=params(id="cut")).rstrip())
        client.shutdown(socket.SHUT_WR)
        received = until_closed(client)
    assert [json.loads(one) for one in received.splitlines()] == [result("whole", "inv-1")]
    assert shared.stores.mirrored("cut") is None


def test_requests_before_a_half_close_are_answered_before_the_server_closes(shared: Served) -> None:
    # More than the kernel keeps: the server has seen the end before it can send the last answer.
    ids = [f"{number}" + "x" * 100_000 for number in range(10)]
    with connect(shared.stores) as client:
        client.sendall(b"".join(map(line, ids)))
        client.shutdown(socket.SHUT_WR)
        until_taken(client)
        ask(shared.stores, line())
        received = until_closed(client)
    assert [json.loads(one)["id"] for one in received.splitlines()] == ids


def test_a_request_may_be_split_at_any_byte_also_within_a_character(shared: Served) -> None:
    note = "é€😀"
    request = {"id": note, "method": METHOD, "params": params(id="split", note=note)}
    data = json.dumps(request, ensure_ascii=False).encode() + b"\n"
    with connect(shared.stores) as client:
        for position in range(1, len(data)):
            client.sendall(data[:position])
            until_taken(client)
            client.sendall(data[position:])
            assert answers(client, 1) == [result(note, "split")]
    kept = shared.stores.mirrored("split")
    assert kept is not None
    assert kept.note == note


def test_a_line_in_ten_thousand_packets_is_one_request(shared: Served) -> None:
    data = line("tiny", given=params(id="tiny", note="n" * 10_000))
    with connect(shared.stores) as client:
        for byte in data:
            client.send(bytes([byte]))
        assert answers(client, 1) == [result("tiny", "tiny")]
    kept = shared.stores.mirrored("tiny")
    assert kept is not None
    assert kept.note == "n" * 10_000


def test_a_thousand_requests_at_once_are_answered_in_order_and_a_bad_one_fails_alone(shared: Served) -> None:
    bad = {
        3: (b"{\n", {"id": "unknown", "error": "Invalid JSON"} | BAD_REQUEST),
        5: (b'{"id":"5"}\n', {"id": "5", "error": "Missing 'id' or 'method' field"} | BAD_REQUEST),
        6: (b'{"id":"6","method":"zz"}\n', {"id": "6", "error": "Unknown method: zz"} | NO_SUCH_METHOD),
        7: (line("7", given=params(id="p-bad", maxUses=0)), "Invalid params: "),
        8: (line("8", given=params(id="p-0", tokenHash="other")), "Invalid params: "),
        9: (line("9", given=params(id="p-bad", contactId="nobody")), "FOREIGN KEY constraint failed"),
    }
    good = {number: f"p-{number}" for number in range(1000) if number % 10 not in bad}
    sent = [
        line(str(number), given=params(id=good[number])) if number in good else bad[number % 10][0]
        for number in range(1000)
    ]
    with connect(shared.stores) as client:
        client.sendall(b"".join(sent))
        found = answers(client, 1000)
    for number, answer in enumerate(found):
        wanted = result(str(number), good[number]) if number in good else bad[number % 10][1]
        if isinstance(wanted, str):
            assert (answer["id"], wanted in answer["error"]) == (str(number % 10), True), answer
        else:
            assert answer == wanted
    kept = rows(shared.stores.mirror, "SELECT id, token_hash FROM ingress_invites WHERE id LIKE 'p-%'")
    assert {row["id"] for row in kept} == set(good.values())
    assert {row["token_hash"] for row in kept} == {"9f" * 32}


def test_one_connection_carries_many_requests_one_after_the_other(shared: Served) -> None:
    with connect(shared.stores) as client:
        for number in range(1, 101):
            client.sendall(line(str(number)))
            assert answers(client, 1) == [result(str(number), "inv-1")]


def test_a_long_line_within_the_limit_is_a_request(shared: Served) -> None:
    data = line("long", given=params(id="long", note="n" * (4 * 2**20 - 1000)))
    assert ask(shared.stores, data) == [result("long", "long")]
