"""P9 across a gateway that does not merge: what a frozen relay can still let out is what it had already written."""

import array
import fcntl
import json
import os
import signal
import socket
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outbox import Destination, Outcome
from outbox.clock import now_ms
from outbox.fence import LeaseLostError
from outbox.leases import LONGEST_LEASE, Leases
from relay.destinations.socket import SocketDestination
from relay.destinations.socket_connection import WRITE_BYTES
from tests.conftest import Stores, rows, write
from tests.postgresql.waiting import until
from tests.relay.rig import answers, create_many
from tests.socket.scripted import result, scripted
from tests.socket.test_client import TOPIC, message
from tests.system.processes import running_relay

pytestmark = pytest.mark.only("sqlite", because="what is tested is the socket; the outbox's own fence runs on both")
HELLO = b'{"id":"probe","error":"Unknown method: relay_probe"}\n'


class Overwriting:
    """A gateway that keeps whatever came last, as the real one does; it reads nothing more until it is told to."""

    def __init__(self, path: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self.reads = threading.Event()
        self.talking = threading.Event()
        self.received: list[list[str]] = []
        """The ids of each connection's requests, in order."""
        self.ended = threading.Event()
        self._client: socket.socket | None = None
        self._unread = 0

    def serve(self, connections: int) -> None:
        for _ in range(connections):
            client, _ = self._listener.accept()
            self._client = client
            self.received.append([])
            with client:
                self._talk(client, self.received[-1])
        self.ended.set()

    def _talk(self, client: socket.socket, ids: list[str]) -> None:
        assert b"relay_probe" in client.recv(4096)
        client.sendall(HELLO)
        self.talking.set()
        assert self.reads.wait(60)
        lines = client.makefile("rb")
        ids.extend(json.loads(line)["params"]["id"] for line in lines if line.endswith(b"\n"))

    def nothing_more_arrives(self) -> bool:
        """Whether as much lies unread as at the last look, and that is much."""
        assert self._client is not None
        size = array.array("i", [0])
        fcntl.ioctl(self._client.fileno(), termios.FIONREAD, size)
        before, self._unread = self._unread, size[0]
        return size[0] == before > WRITE_BYTES

    def close(self) -> None:
        self._listener.close()


@contextmanager
def overwriting(path: Path) -> Iterator[Overwriting]:
    gateway = Overwriting(path)
    thread = threading.Thread(target=gateway.serve, args=(1,), daemon=True)
    thread.start()
    try:
        yield gateway
    finally:
        gateway.reads.set()
        gateway.close()
        thread.join(30)


def test_p09_a_relay_that_froze_in_mid_exchange_writes_nothing_more_when_it_wakes(stores: Stores) -> None:
    create_many(stores, 2_000)
    path = stores.folder / "overwriting.sock"
    with (
        overwriting(path) as gateway,
        running_relay(stores, "--gateway", f"unix://{path}", "run", RELAY_LEASE="2", RELAY_BATCH_SIZE="1000") as fenced,
    ):
        assert gateway.talking.wait(60)
        # The gateway takes nothing, so the relay stands before a full pipe, in the middle of its batch.
        until("the pipe is full", gateway.nothing_more_arrives)
        fenced.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, fenced.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        # As if it had not been seen for long: the successor need not leave it a share.
        write(stores.source, "UPDATE outbox_relays SET seen_at = 0")
        successor = Leases(stores.source, LONGEST_LEASE, Destination.GATEWAY)
        until("the leases lapsed", lambda: holds_all(successor))
        before = sum(map(len, gateway.received))
        assert before == 0
        woken = now_ms()
        fenced.process.send_signal(signal.SIGCONT)
        gateway.reads.set()
        assert gateway.ended.wait(60), "the relay drops the connection"
        until("it woke", lambda: rows(stores.source, f"SELECT 1 FROM outbox_relays WHERE seen_at > {woken}"))
        assert fenced.terminate() == 0
    # What lay in the kernel's buffer when it froze had been sent before.
    in_the_pipe = 512 * 1024
    assert len(gateway.received[0]) * 500 < in_the_pipe
    assert len(gateway.received[0]) < 1_000
    assert stores.states() == ["pending"] * 2_000


def holds_all(successor: Leases) -> bool:
    successor.balance()
    return len(successor.tokens) == 64


def test_the_fence_is_asked_after_each_wait_and_before_each_write_of_at_most_16_kib(tmp_path: Path) -> None:
    many = [message(number, f"inv-{number}") for number in range(1, 400)]
    asked: list[int] = []

    def third_time_lost() -> None:
        asked.append(len(asked))
        if len(asked) == 3:
            raise LeaseLostError("taken")

    with scripted(tmp_path / "g.sock", result) as server:
        client = SocketDestination(tmp_path / "g.sock", TOPIC)
        verdicts = answers(client, many, third_time_lost)
    sent = [json.dumps(request) for request in server.requests]
    assert len(asked) == 3
    assert 0 < sum(map(len, sent)) <= 2 * (WRITE_BYTES + 2_000)
    outcomes = {one.outcome for one in verdicts}
    assert Outcome.LEASE_LOST in outcomes
    assert outcomes <= {Outcome.LEASE_LOST, Outcome.DELIVERED}


def test_a_connection_on_which_the_fence_closed_is_not_used_again(tmp_path: Path) -> None:
    def lost() -> None:
        raise LeaseLostError("taken")

    with scripted(tmp_path / "g.sock", result) as server:
        client = SocketDestination(tmp_path / "g.sock", TOPIC)
        assert [one.outcome for one in answers(client, [message(1)], lost)] == [Outcome.LEASE_LOST]
        assert [one.outcome for one in answers(client, [message(1)], lambda: None)] == [Outcome.DELIVERED]
        client.close()
    assert server.connections == 2
    assert len(server.requests) == 1
