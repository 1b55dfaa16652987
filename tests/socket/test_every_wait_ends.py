"""What comes from a gateway is cut where it is read, and no drip of bytes extends a wait."""

import json
import resource
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outbox import Outcome
from outbox.redact import MAX_REASON
from relay.destinations.port import GatewayUnreachableError
from relay.destinations.socket import SocketDestination
from relay.destinations.socket_connection import MAX_ANSWER
from tests.conftest import Stores, allowed, rows
from tests.relay.rig import answers
from tests.socket.accepting import accepting
from tests.socket.scripted import error, result, scripted
from tests.socket.test_client import TOPIC, message
from tests.system.processes import running_relay, start_relay

PATIENT, QUICK = 60.0, 0.3


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "g.sock"


@pytest.fixture
def client(at: Path) -> Iterator[SocketDestination]:
    gateway = SocketDestination(at, TOPIC, answer_seconds=PATIENT)
    yield gateway
    gateway.close()


@pytest.fixture
def impatient(at: Path) -> Iterator[SocketDestination]:
    gateway = SocketDestination(at, TOPIC, answer_seconds=QUICK)
    yield gateway
    gateway.close()


@contextmanager
def dripping(at: Path, first: bytes, drop: bytes) -> Iterator[None]:
    """A gateway that answers with ``first``, then with ``drop`` again and again, until its client hangs up."""
    pace = threading.Event()

    def drip(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(first)
        while True:
            client.sendall(drop)
            pace.wait(0.005)

    with accepting(at, drip):
        yield


@pytest.mark.parametrize(
    ("first", "drop"),
    [
        (b"", b"x"),
        (b"x" * 12_000_000, b"x"),
        (b"", b'{"event":"tick"}\n'),
        (b"", b'{"event":"' + b"x" * 100_000 + b'"}\n'),
        (b'{"id":"probe",', b" "),
    ],
    ids=["one byte", "12 MB first", "events", "long events", "half an answer"],
)
def test_no_drip_extends_the_wait_for_the_answer_to_a_probe(
    at: Path, impatient: SocketDestination, first: bytes, drop: bytes
) -> None:
    with dripping(at, first, drop):
        started = time.monotonic()
        with pytest.raises(GatewayUnreachableError):
            impatient.probe()
        assert time.monotonic() - started < PATIENT
        impatient.close()


def test_no_drip_extends_the_wait_for_the_answer_to_a_message(at: Path, impatient: SocketDestination) -> None:
    with scripted(at, lambda _: b'{"event":"tick"}\n' * 3) as server:
        started = time.monotonic()
        (verdict,) = answers(impatient, [message()], allowed)
        impatient.close()
    assert verdict.outcome is Outcome.UNREACHABLE
    assert "no answer within" in (verdict.reason or "")
    assert time.monotonic() - started < PATIENT
    assert len(server.requests) == 1


@pytest.mark.parametrize("words", ["x" * 8_000_000, "\x01" * 1_000_000, "\\" * 500_000, "é" * 500_000, "ab" * 500_000])
def test_a_refusal_of_any_length_is_a_refusal_with_a_reason_of_2000_characters(
    at: Path, client: SocketDestination, words: str
) -> None:
    with scripted(at, error(f"Invalid params: {words}")):
        (verdict,) = answers(client, [message()], allowed)
        client.close()
    assert verdict.outcome is Outcome.REFUSED_FOR_GOOD
    assert (verdict.reason or "").startswith("Invalid params: ")
    assert 100 < len(verdict.reason or "") <= MAX_REASON
    assert (verdict.reason or "").isprintable()


def test_the_answers_of_a_batch_are_not_kept_but_for_their_beginnings(at: Path) -> None:
    client = SocketDestination(at, TOPIC)
    big = error("Invalid params: " + "x" * 4_000_000)
    with scripted(at, big):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        verdicts = answers(client, [message(number, f"inv-{number}") for number in range(1, 21)], allowed)
        client.close()
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert {one.outcome for one in verdicts} == {Outcome.REFUSED_FOR_GOOD}
    assert grown < 10 * 4_000_000, "the gateway of this test, in the same process, makes one answer at a time"


def test_an_answer_at_the_limit_is_read_whole(at: Path, client: SocketDestination) -> None:
    def padded(request: dict[str, object]) -> bytes:
        answer = result(request)[:-2] + b', "pad": "'
        return answer + b"x" * (MAX_ANSWER - len(answer) - 2) + b'"}\n'

    with scripted(at, padded):
        (verdict,) = answers(client, [message()], allowed)
        client.close()
    assert verdict.outcome is Outcome.DELIVERED


pytest_sqlite = pytest.mark.only("sqlite", because="what is tested is the socket, and the daemon's one write lock")


@pytest_sqlite
def test_p02_a_gateway_that_answers_with_megabytes_does_not_hold_up_the_daemon(stores: Stores) -> None:
    ids = [stores.create().invite.id for _ in range(30)]
    at = stores.folder / "long.sock"
    answer = error("Invalid params: " + "\x01" * 500_000)
    with scripted(at, answer), running_relay(stores, "--gateway", f"unix://{at}", "run") as started:
        for _ in ids:
            started.wait_for("refused_for_good")
            # Raises where the lock is not given back in time.
            stores.create()
        assert started.terminate() == 0
    dead = rows(stores.source, "SELECT key, length(last_error) AS size FROM outbox_messages WHERE state = 'dead'")
    assert set(ids) <= {row["key"] for row in dead}
    assert max(row["size"] for row in dead) <= MAX_REASON


@pytest_sqlite
def test_sigterm_ends_a_relay_whose_gateway_drips(stores: Stores) -> None:
    stores.create()
    at = stores.folder / "drip.sock"
    with dripping(at, b"", b"x"), start_relay(stores, "--gateway", f"unix://{at}", "run") as started:
        started.wait_for("gateway_unreachable")
        assert started.terminate() == 0
    assert stores.states() == ["pending"]


@pytest_sqlite
def test_p08_one_odd_message_at_a_running_relay_delays_no_other(stores: Stores) -> None:
    bad = stores.create().invite.id
    at = stores.folder / "odd.sock"

    def choose(request: dict[str, dict[str, str]]) -> bytes:
        if request["params"] == {"id": "relay_probe"}:
            return error("Invalid params: []")(request) or b""
        return error("TypeError: x")(request) or b"" if request["params"]["id"] == bad else result(request)

    with scripted(at, choose), running_relay(stores, "--gateway", f"unix://{at}", "run") as started:
        started.wait_for("refused_for_now", invite=bad)
        for _ in range(5):
            started.wait_until_delivered(stores.create().invite.id)
        started.terminate()
        assert started.events("gateway_unreachable") == []
    (row,) = [row for row in stores.messages() if row["key"] == bad]
    assert row["state"] == "retrying"
    assert json.loads(row["payload"])["id"] == bad
