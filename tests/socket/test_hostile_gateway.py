"""The relay's client facing a gateway that is broken or means harm."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from outbox import Outcome, Verdict
from relay.destinations import socket as socket_destination
from relay.destinations.socket import SocketDestination
from relay.destinations.socket_protocol import read_answer
from tests.conftest import allowed
from tests.relay.rig import answers
from tests.socket.accepting import accepting
from tests.socket.clients import NOBODY, become, params
from tests.socket.scripted import error, result, scripted
from tests.socket.test_client import TOPIC, message
from tests.system.processes import FORKSERVER

HASH = "ab" * 32
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, or give a folder away")


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "g.sock"


@pytest.fixture
def client(at: Path) -> Iterator[SocketDestination]:
    gateway = SocketDestination(at, TOPIC, answer_seconds=60.0)
    yield gateway
    gateway.close()


@pytest.mark.parametrize(
    "text",
    [
        "Invalid params: [FOREIGN KEY constraint failed]",
        "SQLiteError: UNIQUE constraint failed: ingress_invites.token_hash",
        "SQLiteError: datatype mismatch",
    ],
)
def test_an_error_about_one_row_is_no_outage(at: Path, client: SocketDestination, text: str) -> None:
    with scripted(at, error(text)):
        (verdict,) = answers(client, [message()], allowed)
        client.close()
    assert verdict.outcome is Outcome.REFUSED_FOR_GOOD


def test_a_payload_of_another_invite_is_refused_alone_and_not_sent(at: Path, client: SocketDestination) -> None:
    with scripted(at, result) as server:
        verdicts = answers(client, [message(1, payload=json.dumps(params(id="another"))), message(2)], allowed)
        client.close()
    assert [one.outcome for one in verdicts] == [Outcome.REFUSED_FOR_GOOD, Outcome.DELIVERED]
    assert len(server.requests) == 1


def test_what_a_gateway_says_of_its_trouble_is_redacted_and_harmless(at: Path, client: SocketDestination) -> None:
    with scripted(at, error(f"\x1b[2J trouble with {HASH} " + "x " * 10_000)):
        (verdict,) = answers(client, [message()], allowed)
        client.close()
    reason = verdict.reason or ""
    assert verdict.outcome is Outcome.UNREACHABLE
    assert "\\x1b[2J trouble with [hash]" in reason
    assert ("\x1b" in reason, HASH in reason, len(reason) > 2_000) == (False, False, False)


@pytest.mark.parametrize("before", range(8_000 - 70, 8_002, 7))
def test_an_answer_that_is_cut_within_a_hash_shows_no_half_of_it(before: int) -> None:
    # Spaces, of which a reason keeps one: what is left is the end.
    answer = read_answer(f'{{"id":"1","error":"{" " * before}{HASH} {"x" * 9_000}"}}'.encode(), is_cut=True)
    assert answer is not None
    assert answer.error is not None
    assert HASH[:4] not in answer.error
    assert answer.error.endswith("[cut off]")


def test_a_gateway_that_answers_ever_so_slowly_holds_a_delivery_up_for_its_time_only(
    at: Path, client: SocketDestination, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket_destination, "DELIVERY_SECONDS", 3.0)
    pace = threading.Event()

    def slowly(client: socket.socket) -> None:
        with suppress(OSError):
            for request in client.makefile("rb"):
                # The pace of the gateway is what is tested.
                pace.wait(0.1)
                client.sendall(result(json.loads(request)))

    many = [message(number, f"inv-{number}") for number in range(1, 100)]
    with accepting(at, slowly):
        outcomes = [one.outcome for one in answers(client, many, allowed)]
        client.close()
        pace.set()
    delivered = outcomes.count(Outcome.DELIVERED)
    assert 0 < delivered < 50
    assert outcomes == [Outcome.DELIVERED] * delivered + [Outcome.UNREACHABLE] * (len(many) - delivered)


def test_answers_given_before_the_gateway_hung_up_count(at: Path, client: SocketDestination) -> None:
    answered: list[int] = []

    def some(client: socket.socket) -> None:
        assert b"relay_probe" in client.recv(4096)
        client.sendall(b'{"id":"probe","error":"Unknown method: relay_probe"}\n')
        *whole, _rest = client.recv(4096).split(b"\n")
        answered.append(len(whole))
        client.sendall(b"".join(result(json.loads(one)) for one in whole))

    many = [message(number, f"inv-{number}") for number in range(1, 1_000)]
    with accepting(at, some):
        outcomes = [one.outcome for one in answers(client, many, allowed)]
        client.close()
    assert answered[0] > 1
    assert outcomes.count(Outcome.DELIVERED) == answered[0]


@pytest.mark.parametrize("rights", [0o777, 0o1777, 0o770], ids=oct)
def test_a_gateway_in_a_folder_that_others_can_write_to_is_told_nothing(at: Path, rights: int) -> None:
    at.parent.chmod(rights)
    connected = list[socket.socket]()
    with accepting(at, connected.append):
        verdict = _delivered(at)
    at.parent.chmod(0o700)
    assert verdict.outcome is Outcome.UNREACHABLE
    assert f"{at.parent} can be written to by others" in (verdict.reason or "")
    assert connected == []


@as_root
@pytest.mark.parametrize("named", ["", str(NOBODY)])
def test_a_gateway_in_a_folder_that_another_user_could_replace_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    monkeypatch.setenv("RELAY_TRUSTED_UID", named)
    up = tmp_path / "up"
    (up / "own").mkdir(parents=True)
    os.chown(up, NOBODY, NOBODY)
    with scripted(up / "own" / "g.sock", result) as server:
        verdict = _delivered(up / "own" / "g.sock")
    refused = f"{up} belongs to another user ({NOBODY})" in (verdict.reason or "")
    assert (refused, server.requests == []) == (not named, not named)


@as_root
@pytest.mark.parametrize("named", ["", str(NOBODY)])
def test_a_stranger_who_serves_the_socket_is_told_nothing_unless_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """In a folder of ours: the stranger was handed the socket."""
    monkeypatch.setenv("RELAY_TRUSTED_UID", named)
    listening, heard = FORKSERVER.Event(), FORKSERVER.Queue()
    stranger = FORKSERVER.Process(target=_serve_as_nobody, args=(tmp_path, listening, heard))
    stranger.start()
    assert listening.wait(30)
    verdict = _delivered(tmp_path / "g.sock")
    assert (heard.get(timeout=30) == b"") == (not named)
    stranger.join(30)
    assert verdict.outcome is Outcome.UNREACHABLE
    assert (f"runs as user {NOBODY}" in (verdict.reason or "")) == (not named)


@as_root
def test_root_trusts_the_owner_of_the_socket_that_it_is_pointed_at(tmp_path: Path) -> None:
    os.chown(tmp_path, NOBODY, NOBODY)
    listening, heard = FORKSERVER.Event(), FORKSERVER.Queue()
    owner = FORKSERVER.Process(target=_serve_as_nobody, args=(tmp_path, listening, heard))
    owner.start()
    assert listening.wait(30)
    _delivered(tmp_path / "g.sock")
    assert heard.get(timeout=30) != b""
    owner.join(30)


def _delivered(at: Path) -> Verdict:
    client = SocketDestination(at, TOPIC, answer_seconds=60.0)
    (verdict,) = answers(client, [message()], allowed)
    client.close()
    return verdict


def _serve_as_nobody(folder: Path, listening: "threading.Event", heard: "object") -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(folder / "g.sock"))
        become(NOBODY, folder)
        # Whoever called it is whom the kernel names at the other end.
        listener.listen()
        # Nobody comes where a test fails.
        listener.settimeout(60)
        listening.set()
        client, _ = listener.accept()
        with client:
            heard.put(client.recv(4096))  # type: ignore[attr-defined]
