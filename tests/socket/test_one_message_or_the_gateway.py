"""P8 on the socket: what is odd about one message is that message's trouble, and what is the gateway's is an outage."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from outbox import Message, Outcome
from relay.destinations import socket as socket_destination
from relay.destinations.doubts import FELL_OVER_BEFORE_BLAMED
from relay.destinations.port import GatewayUnreachableError
from relay.destinations.socket import SocketDestination
from tests.conftest import allowed
from tests.relay.rig import answers
from tests.socket.scripted import Answer, error, line, result, scripted
from tests.socket.test_client import TOPIC, message

LOCKED = "SQLiteError: database is locked"
ODD = [
    "TypeError: Cannot read properties of undefined (reading 'x')",
    "Internal error",
    "",
    "🎉" * 10_000,
    LOCKED,
    "Unknown error: mirror_invite_create",
]
BAD = "inv-3"


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "g.sock"


@pytest.fixture
def client(at: Path) -> Iterator[SocketDestination]:
    gateway = SocketDestination(at, TOPIC, answer_seconds=3.0)
    yield gateway
    gateway.close()


def many(count: int = 6) -> list[Message]:
    return [message(number, f"inv-{number}") for number in range(1, count + 1)]


def only_bad(answer: Answer) -> Answer:
    """``answer`` to the one message and success to every other; a probe of the method is told what is wrong with it."""

    def choose(request: dict[str, Any]) -> bytes | None:
        if request["params"] == {"id": "relay_probe"}:
            return error('Invalid params: [{"path":[]}]')(request)
        return answer(request) if request["params"]["id"] == BAD else result(request)

    return choose


def hang(_: dict[str, Any]) -> bytes:
    return b""


def deliver_until_settled(client: SocketDestination, messages: list[Message], rounds: int = 10) -> dict[str, Outcome]:
    """As a relay does: what is unreachable is delivered again, once the gateway answers a probe."""
    ended: dict[str, Outcome] = {}
    for _ in range(rounds):
        left = [one for one in messages if one.key not in ended]
        if not left:
            return ended
        client.probe()
        for one, verdict in zip(left, answers(client, left, allowed), strict=True):
            if verdict.outcome is not Outcome.UNREACHABLE:
                ended[one.key] = verdict.outcome
    return ended


@pytest.mark.parametrize("text", ODD, ids=lambda text: text[:20])
def test_an_odd_error_among_good_answers_refuses_its_message_for_now_and_no_other(
    at: Path, client: SocketDestination, text: str
) -> None:
    with scripted(at, only_bad(error(text))):
        outcomes = deliver_until_settled(client, many())
        client.close()
    assert outcomes.pop(BAD) is Outcome.REFUSED_FOR_NOW
    assert set(outcomes.values()) == {Outcome.DELIVERED}


@pytest.mark.parametrize(
    "answer",
    [
        lambda _: b"%&!\n",
        lambda _: b"[]\n",
        lambda request: line({"id": request["id"]}),
        lambda request: line({"id": request["id"], "error": {"code": 5}}),
        lambda _: line({"id": "another", "result": {"id": BAD}}),
        lambda request: line({"id": request["id"], "result": {"id": "another"}}),
        lambda _: b"x" * 100_000 + b"\n",
        lambda _: None,
        hang,
    ],
    ids=[
        "garbage",
        "no object",
        "nothing",
        "error is no text",
        "wrong id",
        "another invite",
        "endless",
        "closed",
        "hung",
    ],
)
def test_whatever_a_gateway_makes_of_one_message_the_others_are_delivered(
    at: Path, client: SocketDestination, answer: Answer
) -> None:
    with scripted(at, only_bad(answer)):
        outcomes = deliver_until_settled(client, many())
        client.close()
    assert outcomes.pop(BAD) is Outcome.REFUSED_FOR_NOW
    assert set(outcomes.values()) == {Outcome.DELIVERED}
    assert len(outcomes) == 5


def test_several_messages_that_break_an_exchange_are_all_found(at: Path, client: SocketDestination) -> None:
    def choose(request: dict[str, Any]) -> bytes | None:
        return None if request["params"]["id"] in ("inv-2", "inv-5") else result(request)

    with scripted(at, choose):
        outcomes = deliver_until_settled(client, many())
        client.close()
    assert [key for key, one in outcomes.items() if one is Outcome.REFUSED_FOR_NOW] == ["inv-2", "inv-5"]
    assert len(outcomes) == 6


def test_a_message_that_was_doubted_and_is_answered_at_last_is_delivered_with_the_others(
    at: Path, client: SocketDestination
) -> None:
    with scripted(at, only_bad(lambda _: None)) as server:
        assert deliver_until_settled(client, many())[BAD] is Outcome.REFUSED_FOR_NOW
        server.answer = result
        assert deliver_until_settled(client, many()) == dict.fromkeys((one.key for one in many()), Outcome.DELIVERED)
        before = server.probes
        answers(client, many(), allowed)
        client.close()
    assert server.probes == before, "no probe around it any more"


def test_an_odd_error_alone_is_judged_by_a_probe_of_the_same_method(at: Path, client: SocketDestination) -> None:
    with scripted(at, only_bad(error("TypeError: x"))):
        (verdict,) = answers(client, [message(3, BAD)], allowed)
        client.close()
    assert verdict.outcome is Outcome.REFUSED_FOR_NOW
    assert "TypeError: x" in (verdict.reason or "")


def test_a_method_that_fails_for_everybody_is_an_outage(at: Path, client: SocketDestination) -> None:
    with scripted(at, error("TypeError: x")):
        verdicts = answers(client, many(), allowed)
        client.close()
    assert {one.outcome for one in verdicts} == {Outcome.UNREACHABLE}


def test_a_store_that_is_locked_for_everybody_is_an_outage_and_costs_no_attempt(
    at: Path, client: SocketDestination
) -> None:
    with scripted(at, only_bad(error(LOCKED))) as server:
        server.answer = error(LOCKED)
        for _ in range(5):
            assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.UNREACHABLE}
        server.answer = result
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.DELIVERED}
        client.close()


@pytest.mark.parametrize("text", ["SQLiteError: attempt to write a readonly database", "DatabaseError: disk full"])
def test_a_gateway_of_ours_that_cannot_write_is_down_and_says_why(
    at: Path, client: SocketDestination, text: str
) -> None:
    with scripted(at, result) as server:
        server.probe_answer = error(text)
        with pytest.raises(GatewayUnreachableError, match=text):
            client.probe()
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.UNREACHABLE}
        client.close()
    assert server.requests == []


ODD_PROBES: dict[str, Answer] = {
    "error": error("Internal server error"),
    "no words": error(""),
    "invalid params": error("Invalid params: []"),
    "words within": error("Error: Unknown method: relay_probe"),
    "error is no text": lambda request: line({"id": request["id"], "error": {"code": 404}}),
    "nothing": lambda request: line({"id": request["id"]}),
    "null": lambda request: line({"id": request["id"], "result": None}),
    "no object": lambda request: line({"id": request["id"], "result": [1]}),
    "identity is no text": lambda request: line({"id": request["id"], "result": {"identity": 5}}),
}


@pytest.mark.parametrize("odd", ODD_PROBES.values(), ids=ODD_PROBES)
def test_whatever_else_is_answered_to_a_probe_is_no_word_of_who_the_gateway_is(
    at: Path, client: SocketDestination, odd: Answer
) -> None:
    with scripted(at, result) as server:
        server.probe_answer = odd
        with pytest.raises(GatewayUnreachableError):
            client.probe()
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.UNREACHABLE}
        assert server.requests == []
        server.probe_answer = error("Unknown method: relay_probe")
        assert client.probe().identity is None
        client.close()


@pytest.mark.parametrize("size", [1, 2**17, 2**23])
def test_an_event_that_the_gateway_pushes_is_passed_over(at: Path, client: SocketDestination, size: int) -> None:
    event = json.dumps({"event": "invite_redeemed", "data": {"id": "x" * size}}, separators=(",", ":")).encode() + b"\n"
    with scripted(at, lambda request: event + result(request) + event) as server:
        server.probe_answer = lambda request: (
            event + line({"id": request["id"], "error": "Unknown method: relay_probe"})
        )
        client.probe()
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.DELIVERED}
        client.close()


def test_an_unknown_method_closes_its_topic_and_is_no_outage(at: Path, client: SocketDestination) -> None:
    with scripted(at, error("Unknown method: mirror_invite_create")):
        verdicts = answers(client, many(), allowed)
        client.close()
    assert {(one.outcome, one.reads) for one in verdicts} == {(Outcome.TOPIC_CLOSED, 0)}


ODD_ONES = ["Unknown method: mirror", "Newer payload: who knows"]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("text", ODD_ONES)
def test_an_answer_that_would_close_the_topic_is_about_its_message_where_the_method_is_known(
    at: Path, client: SocketDestination, text: str, alone: bool
) -> None:
    """By the answers to others, or to a probe of the method where there are none."""

    def answer(request: dict[str, Any]) -> bytes | None:
        if request["params"].get("id") == BAD:
            return error(text)(request)
        return result(request) if "tokenHash" in request["params"] else error("Invalid params: []")(request)

    sent = [one for one in many() if one.key == BAD or not alone]
    with scripted(at, answer):
        verdicts = dict(zip((one.key for one in sent), answers(client, sent, allowed), strict=True))
        client.close()
    odd = verdicts.pop(BAD)
    assert (odd.outcome, text in (odd.reason or "")) == (Outcome.REFUSED_FOR_NOW, True)
    assert "upgrade" not in (odd.reason or ""), "that would be no cure"
    assert {one.outcome for one in verdicts.values()} == (set() if alone else {Outcome.DELIVERED})


@pytest.mark.parametrize("text", ODD_ONES)
@pytest.mark.parametrize(
    "probed", [error("Internal error"), error(LOCKED), lambda _: None], ids=["odd", "locked", "gone"]
)
def test_a_topic_closes_only_where_a_probe_of_the_method_says_so_as_well(
    at: Path, client: SocketDestination, probed: Answer, text: str
) -> None:
    """Otherwise nothing is known of the method, and no attempt is counted."""

    def answer(request: dict[str, Any]) -> bytes | None:
        return error(text)(request) if "tokenHash" in request["params"] else probed(request)

    with scripted(at, answer) as server:
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.UNREACHABLE}
        server.answer = error(text)
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.TOPIC_CLOSED}
        client.close()


def test_what_was_never_sent_shows_nothing_of_the_gateway(at: Path, client: SocketDestination) -> None:
    unsent = message(99, "inv-99", payload="{")
    with scripted(at, error("Unknown method: mirror_invite_create")):
        last, *verdicts = answers(client, [unsent, *many()], allowed)
        client.close()
    assert last.outcome is Outcome.REFUSED_FOR_GOOD
    assert {one.outcome for one in verdicts} == {Outcome.TOPIC_CLOSED}


@pytest.mark.parametrize(("told", "sent"), [(None, 0), (1, 0), (2, 1), (3, 1), ("2", 0), (True, 0)])
def test_a_newer_payload_is_judged_before_it_is_sent_by_what_the_gateway_says_it_reads(
    at: Path, client: SocketDestination, told: object, sent: int
) -> None:
    payload = json.dumps(json.loads(message().payload) | {"schemaVersion": 2})
    with scripted(at, result) as server:
        if told is not None:
            server.probe_answer = lambda request: line({"id": request["id"], "result": {"schemaVersion": told}})
        (verdict,) = answers(client, [message(payload=payload)], allowed)
        client.close()
    assert len(server.requests) == sent
    assert verdict.outcome is (Outcome.DELIVERED if sent else Outcome.TOPIC_CLOSED)


def test_a_gateway_that_refuses_a_newer_payload_by_itself_closes_the_topic_for_that_version(
    at: Path, client: SocketDestination
) -> None:
    with scripted(at, error("Newer payload: schema version 2, this gateway reads 1")):
        (verdict,) = answers(client, [message()], allowed)
        client.close()
    assert verdict.outcome is Outcome.TOPIC_CLOSED


class Crashing:
    """A gateway that dies of one message, and is started again by whoever looks after it."""

    def __init__(self, path: Path) -> None:
        self.path, self.crashes = path, 0
        self._threads: list[threading.Thread] = []
        self._listeners: list[socket.socket] = []

    def start(self) -> None:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen()
        self._listeners.append(listener)
        self._threads.append(threading.Thread(target=self._serve, args=(listener,)))
        self._threads[-1].start()

    def join(self) -> None:
        for listener in self._listeners:
            # Nobody may have come to the last one.
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _serve(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:
            listener.close()
            return
        with listener, client, client.makefile("rb") as lines:
            for text in lines:
                request = json.loads(text)
                if request["method"] == "relay_probe":
                    client.sendall(error("Unknown method: relay_probe")(request) or b"")
                elif request["params"]["id"] == BAD:
                    self.path.unlink()
                    self.crashes += 1
                    return
                else:
                    client.sendall(result(request))


def test_a_message_that_the_gateway_dies_of_is_refused_once_that_is_no_chance_any_more(
    at: Path, client: SocketDestination
) -> None:
    server = Crashing(at)
    ended: dict[str, Outcome] = {}
    for _ in range(2 * FELL_OVER_BEFORE_BLAMED):
        left = [one for one in many() if one.key not in ended]
        if not left:
            break
        if not at.exists():
            client.close()
            server.start()
        for one, verdict in zip(left, answers(client, left, allowed), strict=True):
            if verdict.outcome is not Outcome.UNREACHABLE:
                ended[one.key] = verdict.outcome
    client.close()
    server.join()
    assert ended.pop(BAD) is Outcome.REFUSED_FOR_NOW
    assert set(ended.values()) == {Outcome.DELIVERED}
    assert server.crashes == 1 + FELL_OVER_BEFORE_BLAMED


def test_the_time_for_a_delivery_holds_for_all_that_belongs_to_it(
    at: Path, client: SocketDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_destination, "DELIVERY_SECONDS", 0.0)
    with scripted(at, result) as server:
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.UNREACHABLE}
        client.close()
    assert server.requests == []


@contextmanager
def time_for_a_delivery(seconds: float) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket_destination, "DELIVERY_SECONDS", seconds)
        yield


def test_running_out_of_the_time_for_a_delivery_raises_no_doubt_about_any_message(
    at: Path, client: SocketDestination
) -> None:
    """A doubtful message would be sent alone, between two probes."""
    with scripted(
        at, lambda request: result(request) if request["params"]["id"] in ("inv-1", "inv-2") else b""
    ) as server:
        # Less than the answer to one message may take.
        with time_for_a_delivery(2.0):
            *_, last = answers(client, many(), allowed)
        assert last.outcome is Outcome.UNREACHABLE
        server.answer = result
        before = server.probes
        assert {one.outcome for one in answers(client, many(), allowed)} == {Outcome.DELIVERED}
        client.close()
    assert server.probes == before + 1, "on the new connection, and no other"


def test_a_message_that_is_sent_alone_has_the_full_time_for_its_answer(at: Path, client: SocketDestination) -> None:
    with scripted(at, only_bad(lambda _: None)) as server:
        assert Outcome.UNREACHABLE in {one.outcome for one in answers(client, many(), allowed)}
        server.answer = only_bad(hang)
        (verdict,) = answers(client, [message(3, BAD)], allowed)
        client.close()
    assert verdict.outcome is Outcome.REFUSED_FOR_NOW
    assert "no answer within 3 s" in (verdict.reason or "")


def test_a_doubtful_message_is_not_sent_where_no_time_is_left_for_its_answer(at: Path) -> None:
    client = SocketDestination(at, TOPIC)
    with scripted(at, lambda _: None) as server:
        for one in many():
            assert answers(client, [one], allowed)[0].outcome is Outcome.UNREACHABLE
        server.answer = hang
        server.requests.clear()
        with time_for_a_delivery(1.0):
            verdicts = answers(client, many(), allowed)
        client.close()
    # A third of that time each: there is none for a third message, and on a busy machine for less.
    assert len(server.requests) < 3
    assert {one.outcome for one in verdicts[2:]} == {Outcome.UNREACHABLE}


def test_running_out_of_time_after_a_message_does_not_blame_it_for_the_silence(at: Path) -> None:
    """Unlike a gateway that is gone after it again and again while there was time to see it answer."""
    client = SocketDestination(at, TOPIC)
    with scripted(at, lambda _: None) as server:
        answers(client, [message(3, BAD)], allowed)
        server.answer = hang
        usual, sent = server.probe_answer, len(server.requests)

        def silent_afterwards(request: dict[str, Any]) -> bytes | None:
            return usual(request) if len(server.requests) == sent else b""

        server.probe_answer = silent_afterwards
        for _ in range(FELL_OVER_BEFORE_BLAMED + 1):
            sent = len(server.requests)
            with time_for_a_delivery(1.0):
                (verdict,) = answers(client, [message(3, BAD)], allowed)
            assert verdict.outcome is Outcome.UNREACHABLE
        client.close()
