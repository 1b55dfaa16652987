"""A server whose limits are short, in a thread: who stalls is dropped, who is slow is not, and stopping ends."""

import json
import select
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from outbox import open_engine, writing
from relay.serve.batch import MAX_BATCH
from relay.serve.limits import Limits
from relay.serve.listening import SocketFile
from relay.serve.server import Server
from relay.serve_gateway import methods_of
from tests.conftest import Stores
from tests.socket.clients import answers, connect, line, params, path, send_all_that_is_taken
from tests.socket.waiting import DEADLINE_SECONDS, has_hung_up, until_closed, until_taken

pytestmark = pytest.mark.only("sqlite", because="one lock on the whole store is what stopping may have to wait for")

ANSWER = [{"id": "1", "result": {"id": "inv-1"}}]
CLIENTS, REQUESTS = 200, 60


@contextmanager
def serving(stores: Stores, limits: Limits, busy_seconds: float = 2.0) -> Iterator[Server]:
    """Stopped at the end, if it was not before."""
    engine = open_engine(stores.mirror_url, create=False, busy_timeout=busy_seconds)
    server = Server(methods_of(engine).replies, SocketFile(path(stores)), limits)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(DEADLINE_SECONDS)
        engine.dispose()
    assert not thread.is_alive()


def test_a_client_that_never_fetches_its_answers_is_dropped_and_one_that_does_so_slowly_is_not(stores: Stores) -> None:
    # More than the kernel keeps for a client, so that there is always something that the server cannot send.
    ids = [f"{number}" + "x" * 100_000 for number in range(11)]
    sent, received = len(ids), b""
    with (
        serving(stores, Limits(send_seconds=6.0)),
        connect(stores) as never,
        connect(stores) as slow,
        connect(stores) as honest,
    ):
        # The slow one first: were it judged by when it began, it would be late before the other.
        for client in (slow, never):
            client.sendall(b"".join(line(id_, "zz") for id_ in ids))
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not has_hung_up(never):
            assert time.monotonic() < deadline, "never dropped"
            honest.sendall(line())
            assert answers(honest, 1) == ANSWER
            received += slow.recv(4096)
            if received.count(b"\n") + len(ids) > sent:
                slow.sendall(line(ids[0], "zz"))
                sent += 1
        with slow.makefile("rb") as replies:
            found = (received + b"".join(replies.readline() for _ in range(sent - received.count(b"\n")))).splitlines()
    assert [json.loads(one)["id"] for one in found] == ids + [ids[0]] * (sent - len(ids))


def test_when_all_connections_are_taken_the_one_that_was_idle_longest_gives_way(stores: Stores) -> None:
    with serving(stores, Limits(connections=3, idle_seconds=0.0)), ExitStack() as stack:
        clients = [stack.enter_context(connect(stores)) for _ in range(3)]
        for client in (clients[1], clients[0], clients[2]):
            client.sendall(line())
            assert answers(client, 1) == ANSWER
        with connect(stores) as newcomer:
            newcomer.sendall(line())
            assert answers(newcomer, 1) == ANSWER
        assert until_closed(clients[1]) == b""
        assert [has_hung_up(client) for client in (clients[0], clients[2])] == [False, False]


def test_none_gives_way_that_has_just_asked(stores: Stores) -> None:
    with serving(stores, Limits(connections=2, idle_seconds=3600.0)), connect(stores) as one, connect(stores) as other:
        for client in (one, other):
            client.sendall(line())
            assert answers(client, 1) == ANSWER
        with connect(stores) as newcomer:
            assert until_closed(newcomer) == b""
        assert not has_hung_up(one)


def test_a_line_that_trickles_in_is_dropped_and_lines_of_which_one_is_always_unfinished_are_not(stores: Stores) -> None:
    data = line()
    first, last = data[:-20], data[-20:]
    with serving(stores, Limits(line_seconds=6.0)), connect(stores) as trickling, connect(stores) as honest:
        honest.sendall(first)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not has_hung_up(trickling):
            assert time.monotonic() < deadline, "never dropped"
            send_all_that_is_taken(trickling, b"x")
            honest.sendall(last + first)
            assert answers(honest, 1) == ANSWER
        honest.sendall(last)
        assert answers(honest, 1) == ANSWER


def test_stopping_while_the_store_is_locked_ends_at_its_limit_and_answers_what_it_can(stores: Stores) -> None:
    requests = line("1", given=params()) * REQUESTS
    with (
        writing(stores.mirror),
        # Answering all that waits would take two dozen times half a second.
        serving(stores, Limits(last_answers_seconds=5.0), busy_seconds=0.5) as server,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(connect(stores)) for _ in range(CLIENTS)]
        for client in clients:
            client.sendall(requests)
        for client in clients:
            until_taken(client)
        before = len(select.select(clients, [], [], 0)[0])
        server.stop()
        found = [until_closed(client).splitlines() for client in clients]
    answered = [json.loads(one) for lines in found for one in lines]
    assert {len(lines) for lines in found} <= {0, REQUESTS}
    assert {(one["id"], "locked" in one["error"]) for one in answered} == {("1", True)}
    # The batch in hand, and then some more, and by far not all.
    assert before * REQUESTS + MAX_BATCH + REQUESTS < len(answered) < CLIENTS * REQUESTS
    assert not path(stores).exists()
