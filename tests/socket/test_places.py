"""Connections that ask nothing keep out nobody who does, however many there are and however fast they come."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from outbox import writing
from tests.socket.clients import NO_SUCH_METHOD_BYTES, answers, connect, line, params, path, send_all_that_is_taken
from tests.socket.conftest import Served
from tests.socket.waiting import frozen, has_hung_up, until_closed, until_closed_or_line, until_taken
from tests.system.processes import FORKSERVER

PLACES = 256
# More than the places, the lobby and the door hold together.
MORE = 900
SMALL = b'{"id":"1","method":"zz"}\n'
ANSWER = b'{"id":"1","error":"Unknown method: zz"' + NO_SUCH_METHOD_BYTES
HELD, ASKED, MOST_UNANSWERED = 400, 40, 2


def and_close(client: socket.socket) -> None:
    client.close()


def and_say_nothing(_client: socket.socket) -> None: ...


def and_half_close(client: socket.socket) -> None:
    client.shutdown(socket.SHUT_WR)


def and_say_half(client: socket.socket) -> None:
    client.send(SMALL[:-4])


def and_ask(client: socket.socket) -> None:
    client.send(SMALL)


def and_ask_and_say_half(client: socket.socket) -> None:
    client.send(SMALL + SMALL[:-4])


def and_ask_and_close(client: socket.socket) -> None:
    client.send(SMALL)
    client.close()


WAYS = [and_close, and_say_nothing, and_half_close, and_say_half, and_ask, and_ask_and_say_half, and_ask_and_close]


def connect_and_connect(at: Path, then: Callable[[socket.socket], None], raging: Event) -> None:
    """As fast as it can, for longer than any test; it keeps the newest of them open."""
    held: list[socket.socket] = []
    end = time.monotonic() + 600
    while time.monotonic() < end:
        client = connected(at)
        # The server may have closed it before.
        with suppress(OSError):
            then(client)
        held.append(client)
        if len(held) > HELD:
            held.pop(0).close()
            raging.set()


def connected(at: Path) -> socket.socket:
    """Waits in the kernel's queue, as a socket with a time-out does not."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(at))
    return client


@contextmanager
def storm(shared: Served, then: Callable[[socket.socket], None]) -> Iterator[None]:
    raging = FORKSERVER.Event()
    attacker = FORKSERVER.Process(target=connect_and_connect, args=(path(shared.stores), then, raging))
    attacker.start()
    try:
        assert raging.wait(60)
        yield
        assert attacker.is_alive()
    finally:
        attacker.kill()
        attacker.join()


def ask_anew(shared: Served) -> bytes:
    with connected(path(shared.stores)) as client:
        client.settimeout(60)
        return until_closed_or_line(client) if send_all_that_is_taken(client, SMALL) else b""


@pytest.mark.parametrize("then", WAYS)
def test_a_storm_of_connects_leaves_a_fresh_client_served(
    shared: Served, then: Callable[[socket.socket], None]
) -> None:
    with storm(shared, then):
        found = [ask_anew(shared) for _ in range(ASKED)]
    assert set(found) <= {ANSWER, b""}
    assert found.count(b"") <= MOST_UNANSWERED


@pytest.mark.parametrize("then", WAYS)
def test_connections_held_open_in_any_number_leave_a_fresh_client_served(
    shared: Served, then: Callable[[socket.socket], None]
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connected(path(shared.stores))) for _ in range(MORE)]
        for client in clients:
            # Some are sent away before it comes to them.
            with suppress(OSError):
                then(client)
        assert [ask_anew(shared) for _ in range(20)] == [ANSWER] * 20
        still_open = [client for client in clients if client.fileno() >= 0 and not has_hung_up(client)]
        assert len(still_open) <= PLACES


def test_connections_that_have_hung_up_take_no_place(shared: Served) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(shared.stores)) for _ in range(PLACES)]
        for client in clients:
            client.sendall(SMALL)
            answers(client, 1)
        with frozen(shared.process):
            # Both wait for the server when it wakes: those who left, and those who come.
            for client in clients:
                client.close()
            newcomers = [stack.enter_context(connect(shared.stores)) for _ in range(PLACES)]
            for client in newcomers:
                client.sendall(SMALL)
        assert [until_closed_or_line(client) for client in newcomers] == [ANSWER] * PLACES
        assert not any(has_hung_up(client) for client in newcomers)


def test_clients_that_died_with_answers_to_fetch_take_no_place(shared: Served) -> None:
    request = json.dumps({"id": "x" * 50_000, "method": "zz"}).encode() + b"\n"
    with ExitStack() as stack:
        for _ in range(PLACES):
            client = stack.enter_context(connect(shared.stores))
            client.sendall(request * 4)
            client.sendall(SMALL[:-1])
            until_taken(client)
        stack.close()
        newcomers = [stack.enter_context(connect(shared.stores)) for _ in range(PLACES)]
        for client in newcomers:
            client.sendall(SMALL)
        assert [until_closed_or_line(client) for client in newcomers] == [ANSWER] * PLACES


def test_clients_that_wait_for_the_store_are_not_sent_away_for_others_who_then_wait_too(shared: Served) -> None:
    requests = [line("1", given=params(id=f"wait-{number}")) for number in range(PLACES + 100)]
    with ExitStack() as stack:
        with writing(shared.stores.mirror):
            clients = []
            for request in requests:
                clients.append(stack.enter_context(connect(shared.stores)))
                clients[-1].sendall(request)
        found = [answers(client, 1)[0] for client in clients]
    assert [one["result"]["id"] for one in found if "result" in one] == [
        f"wait-{number}" for number, one in enumerate(found) if "result" in one
    ]
    assert ["result" in one or "locked" in one["error"] for one in found] == [True] * len(requests)


def test_a_client_that_is_silent_while_all_places_are_taken_is_sent_away_and_one_that_asks_is_not(
    shared: Served,
) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(shared.stores)) for _ in range(PLACES)]
        for client in clients:
            client.sendall(SMALL)
            answers(client, 1)
        silent = stack.enter_context(connect(shared.stores))
        assert until_closed(silent) == b""
        assert not any(has_hung_up(client) for client in clients)
        # It takes the place of the one that asked longest ago.
        newcomer = stack.enter_context(connect(shared.stores))
        newcomer.sendall(SMALL)
        assert until_closed_or_line(newcomer) == ANSWER
        assert until_closed(clients[0]) == b""
        assert not any(has_hung_up(client) for client in clients[1:])


def test_a_client_in_the_middle_of_a_line_gives_way_after_those_that_were_idle_longer(shared: Served) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(shared.stores)) for _ in range(PLACES)]
        for client in clients:
            client.sendall(SMALL)
            answers(client, 1)
        clients[0].sendall(SMALL[:-4])
        until_taken(clients[0])
        newcomer = stack.enter_context(connect(shared.stores))
        newcomer.sendall(SMALL)
        assert until_closed_or_line(newcomer) == ANSWER
        assert until_closed(clients[1]) == b""
        clients[0].sendall(SMALL[-4:])
        assert until_closed_or_line(clients[0]) == ANSWER


def test_a_client_may_be_silent_for_as_long_as_nobody_needs_its_place(shared: Served) -> None:
    with connect(shared.stores) as silent:
        time_is_over = time.monotonic() + 2.0
        while time.monotonic() < time_is_over:
            assert ask_anew(shared) == ANSWER
        silent.sendall(SMALL)
        assert until_closed_or_line(silent) == ANSWER
