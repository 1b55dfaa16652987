"""The relay's client, against a gateway whose every answer is written here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from outbox import Message, Outcome
from relay.destinations.port import GatewayUnreachableError
from relay.destinations.socket import SocketDestination
from relay.destinations.socket_flight import WINDOW_REQUESTS
from tests.conftest import allowed
from tests.relay.rig import answers
from tests.socket.clients import params
from tests.socket.scripted import Answer, error, line, result, scripted

TOPIC = "invite.mirror"
# What hangs is waited for so long, and what answers may be as slow as a busy machine is.
ANSWER_SECONDS = 3.0
SPACES = "\ufeff\u00a0\u3000 \r".encode()


def message(seq: int = 1, key: str = "inv-1", topic: str = TOPIC, payload: str | None = None) -> Message:
    return Message(
        seq=seq,
        topic=topic,
        key=key,
        version=1,
        shard=0,
        payload=json.dumps(params(id=key), ensure_ascii=False) if payload is None else payload,
        origin="live",
        enqueued_at=0,
        state="pending",
        attempts=0,
        last_error=None,
        newer_dead_seq=None,
    )


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "g.sock"


@pytest.fixture
def client(at: Path) -> Iterator[SocketDestination]:
    gateway = SocketDestination(at, TOPIC, answer_seconds=ANSWER_SECONDS)
    yield gateway
    gateway.close()


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (result, Outcome.DELIVERED),
        (lambda request: line({"id": int(request["id"]), "result": {"id": "inv-1"}}), Outcome.DELIVERED),
        (lambda request: SPACES + b"\n" + SPACES + result(request).rstrip() + SPACES + b"\n", Outcome.DELIVERED),
        (error("SQLiteError: FOREIGN KEY constraint failed"), Outcome.REFUSED_FOR_NOW),
        (error('Invalid params: [{"path":["maxUses"]}]'), Outcome.REFUSED_FOR_GOOD),
        (error("SQLiteError: database is locked"), Outcome.UNREACHABLE),
        (error("Unknown method: mirror_invite_create"), Outcome.TOPIC_CLOSED),
        (lambda _: b"%&!\n", Outcome.UNREACHABLE),
        (lambda _: b"[]\n", Outcome.UNREACHABLE),
        (lambda _: line({"id": "another", "result": {"id": "inv-1"}}), Outcome.UNREACHABLE),
        (lambda request: line({"id": request["id"], "result": {"id": "another"}}), Outcome.UNREACHABLE),
        (lambda request: line({"id": request["id"]}), Outcome.UNREACHABLE),
        (lambda _: b'{"id":"1","result":', Outcome.UNREACHABLE),
        (lambda _: b"x" * (2**20 + 1), Outcome.UNREACHABLE),
        (lambda _: b"", Outcome.UNREACHABLE),
        (lambda _: None, Outcome.UNREACHABLE),
    ],
    ids=[
        "delivered",
        "the id as a number",
        "spaces around it",
        "contact missing",
        "invalid params",
        "locked",
        "unknown method",
        "garbage",
        "no object",
        "a wrong id",
        "another invite's id",
        "neither result nor error",
        "half an answer",
        "an endless answer",
        "no answer",
        "closed early",
    ],
)
def test_each_kind_of_answer_becomes_its_verdict(
    at: Path, client: SocketDestination, answer: Answer, outcome: Outcome
) -> None:
    with scripted(at, answer):
        (verdict,) = answers(client, [message()], allowed)
        client.close()

    assert verdict.outcome is outcome
    assert (verdict.reason is None) == (outcome is Outcome.DELIVERED)


def test_no_gateway_is_unreachable_and_says_where(at: Path, client: SocketDestination) -> None:
    (verdict,) = answers(client, [message()], allowed)

    assert verdict.outcome is Outcome.UNREACHABLE
    assert str(at) in (verdict.reason or "")
    with pytest.raises(GatewayUnreachableError, match=str(at)):
        client.probe()


def test_a_connection_is_kept_and_made_anew_once_it_broke(at: Path, client: SocketDestination) -> None:
    with scripted(at, result) as server:
        answers(client, [message(1)], allowed)
        answers(client, [message(2)], allowed)
        kept = server.connections
        server.answer = lambda _: None
        answers(client, [message(3)], allowed)
        server.answer = result
        (verdict,) = answers(client, [message(3)], allowed)
        client.close()

    assert kept == 1
    assert verdict.outcome is Outcome.DELIVERED
    assert server.connections == 2


def test_what_was_answered_before_the_connection_broke_keeps_its_verdict(at: Path, client: SocketDestination) -> None:
    def three_then_close(request: dict[str, Any]) -> bytes | None:
        return None if request["params"]["id"] == "inv-4" else result(request)

    with scripted(at, three_then_close):
        verdicts = answers(client, [message(number, f"inv-{number}") for number in range(1, 7)], allowed)

    assert [one.outcome for one in verdicts] == [Outcome.DELIVERED] * 3 + [Outcome.UNREACHABLE] * 3


def test_answers_in_any_order_find_their_messages(at: Path, client: SocketDestination) -> None:
    held: list[bytes] = []

    def backwards(request: dict[str, Any]) -> bytes:
        refused = request["params"]["id"] == "inv-2"
        held.insert(0, error("Invalid params: []")(request) or b"" if refused else result(request))
        return b"".join(held) if len(held) == 3 else b""

    with scripted(at, backwards):
        verdicts = answers(client, [message(number, f"inv-{number}") for number in (1, 2, 3)], allowed)
        client.close()

    assert [one.outcome for one in verdicts] == [Outcome.DELIVERED, Outcome.REFUSED_FOR_GOOD, Outcome.DELIVERED]


def test_requests_are_ascii_so_that_no_packet_splits_a_character(at: Path, client: SocketDestination) -> None:
    payload = json.dumps(params(note="Ünïcødé 🎉 " * 20_000), ensure_ascii=False)

    with scripted(at, result) as server:
        (verdict,) = answers(client, [message(payload=payload)], allowed)
        client.close()

    assert verdict.outcome is Outcome.DELIVERED
    assert server.requests[0]["params"] == json.loads(payload)


def test_a_payload_of_many_lines_is_sent_on_one(at: Path, client: SocketDestination) -> None:
    payload = json.dumps(params(), indent=2)

    with scripted(at, result) as server:
        (verdict,) = answers(client, [message(payload=payload)], allowed)
        client.close()

    assert verdict.outcome is Outcome.DELIVERED
    assert server.requests[0]["params"] == json.loads(payload)


def test_no_more_than_a_window_is_in_flight(at: Path, client: SocketDestination) -> None:
    many = [message(number, f"inv-{number}") for number in range(1, 3 * WINDOW_REQUESTS)]

    with scripted(at, result) as server:
        verdicts = answers(client, many, allowed)
        client.close()

    assert {one.outcome for one in verdicts} == {Outcome.DELIVERED}
    assert 1 < server.most_unanswered <= WINDOW_REQUESTS


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        (message(topic="other"), "unknown topic"),
        (message(payload="{"), "not JSON"),
        (message(payload="[" * 200_000), "not JSON"),
        (message(payload='{"note":' + "[" * 500 + "]" * 500 + "}"), "not JSON"),
        (message(payload='{"note":NaN}'), "not JSON"),
        (message(payload='{"note":"é","maxUses":1e400}'), "not JSON"),
        (message(payload=json.dumps(params(note="x" * 2**22))), "more than"),
    ],
    ids=["unknown topic", "broken", "too deep", "deep", "NaN", "infinite", "too long"],
)
def test_what_a_line_cannot_carry_is_refused_for_good_and_not_sent(
    at: Path, client: SocketDestination, refused: Message, words: str
) -> None:
    with scripted(at, result) as server:
        verdicts = answers(client, [refused, message(2)], allowed)
        client.close()

    assert [one.outcome for one in verdicts] == [Outcome.REFUSED_FOR_GOOD, Outcome.DELIVERED]
    assert words in (verdicts[0].reason or "")
    assert len(server.requests) == 1


def test_a_probe_is_content_with_any_answer_and_changes_nothing(at: Path, client: SocketDestination) -> None:
    with scripted(at, error("Unknown method: relay_probe")) as server:
        client.probe()
        client.close()

    assert (server.probes, server.requests) == (1, [])
