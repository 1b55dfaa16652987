"""A server that takes connections and says nothing: an outage like any other, after its time."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from outbox import Outcome, open_engine
from outbox.database import postgresql
from outbox.wakeups.wake import listen
from relay.destinations.database import DatabaseDestination
from relay.destinations.port import GatewayUnreachableError
from relay.topics import APPLIERS
from tests.conftest import Stores, allowed, message_of
from tests.postgres import Cluster
from tests.postgresql.listening import listening
from tests.postgresql.protocol import Peer, connect, socket_of, through
from tests.postgresql.servers import stores_with
from tests.relay.rig import answers


def test_p07_a_gateway_that_stops_answering_is_unreachable_and_then_reachable_again(
    own_server: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "LONGEST_SECONDS", 5.0)
    with stores_with(own_server, tmp_path, "mirror") as stores:
        for _ in range(2):
            stores.create()
        one, other = [message_of(row) for row in stores.messages()]
        gateway = DatabaseDestination(stores.mirror_url, APPLIERS, busy_timeout=0.5)
        assert [verdict.outcome for verdict in answers(gateway, [one], allowed)] == [Outcome.DELIVERED]
        stores.mirror.dispose()
        with wedged(own_server):
            assert [verdict.outcome for verdict in answers(gateway, [other], allowed)] == [Outcome.UNREACHABLE]
            with pytest.raises(GatewayUnreachableError):
                gateway.probe()
        gateway.probe()
        assert [verdict.outcome for verdict in answers(gateway, [other], allowed)] == [Outcome.DELIVERED]
        gateway.close()
        assert stores.mirrored(other.key) is not None


def test_a_server_that_says_nothing_when_it_is_to_wake_a_relay_is_given_up(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "LONGEST_SECONDS", 5.0)

    def greet_only(client_socket: socket.socket) -> None:
        client = Peer(client_socket)
        session, greeting = connect(socket_of(stores.source_url), client.startup())
        with session.socket:
            client.send(*greeting)
            while client.receive():
                pass

    with listening(greet_only) as port:
        engine = open_engine(through(stores.source_url, port))
        with listen(engine, "ear") as listener:
            assert listener.problem is not None


@contextmanager
def wedged(server: Cluster) -> Iterator[None]:
    """All its processes stand still; the kernel goes on taking connections for them."""
    assert server.process is not None
    processes = [server.process.pid, *_children(server.process.pid)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


def _children(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
