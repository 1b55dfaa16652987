"""Clients that mean harm or know no better: what one can take from the server is bounded, and others are served."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from outbox import writing
from tests.conftest import Stores
from tests.socket.clients import (
    NO_SUCH_METHOD_BYTES,
    NOBODY,
    answers,
    ask,
    become,
    connect,
    gateway,
    line,
    params,
    path,
    send_all_that_is_taken,
)
from tests.socket.conftest import Served
from tests.socket.waiting import peak_mib, until_closed, until_closed_or_line, until_taken
from tests.system.processes import FORKSERVER

MAX_CONNECTIONS = 256
MAX_LINE = 4 * 2**20
# An idle server has about 80 MiB. One line of 4 MiB, read, can take 64 MiB, and all that wait are kept within 64 MiB.
MAX_PEAK_MIB = 400.0
SERVED, CLOSED = 40, 41
SMALL = b'{"id":"1","method":"zz"}\n'
UNKNOWN = (b'{"id":"1","error":"Unknown method: zz"' + NO_SUCH_METHOD_BYTES).rstrip()


@contextmanager
def many(shared: Served, count: int) -> Iterator[list[socket.socket]]:
    """Connections that the server is seen to have taken."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            clients.append(stack.enter_context(connect(shared.stores)))
            clients[-1].sendall(SMALL)
            answers(clients[-1], 1)
        yield clients


def assert_others_are_served(shared: Served) -> None:
    assert ask(shared.stores, line("other")) == [{"id": "other", "result": {"id": "inv-1"}}]


def was_served(folder: Path, user: int) -> bool:
    asking = FORKSERVER.Process(target=_ask_as, args=(folder, user))
    asking.start()
    asking.join(30)
    assert asking.exitcode in (SERVED, CLOSED)
    return asking.exitcode == SERVED


def _ask_as(folder: Path, user: int) -> None:
    become(user, folder)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect("g.sock")
        sent = send_all_that_is_taken(client, SMALL)
        os._exit(SERVED if sent and until_closed_or_line(client) else CLOSED)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_is_not_served_even_where_the_files_would_let_it(shared: Served) -> None:
    folder = path(shared.stores).parent
    folder.chmod(0o755)
    path(shared.stores).chmod(0o666)
    try:
        assert [was_served(folder, user) for user in (NOBODY, 0)] == [False, True]
    finally:
        path(shared.stores).chmod(0o600)
        folder.chmod(0o700)


def test_a_line_beyond_the_limit_ends_its_connection_alone(shared: Served) -> None:
    with connect(shared.stores) as honest, connect(shared.stores) as client:
        chunk = b"x" * 2**20
        taken = 0
        while taken < 64 and send_all_that_is_taken(client, chunk):
            taken += 1
        assert taken < 16
        assert until_closed(client) == b""
        honest.sendall(line("1"))
        assert answers(honest, 1) == [{"id": "1", "result": {"id": "inv-1"}}]
    assert peak_mib(shared.process) < MAX_PEAK_MIB


def test_a_whole_line_beyond_the_limit_is_not_answered(shared: Served) -> None:
    with connect(shared.stores) as client:
        send_all_that_is_taken(client, line("long", given=params(id="too-long", note="n" * MAX_LINE)))
        assert until_closed(client) == b""
    assert shared.stores.mirrored("too-long") is None


def test_many_long_lines_at_once_take_no_more_than_is_allowed_in_all(shared: Served) -> None:
    half = b'{"id":"' + b"x" * (MAX_LINE - 2**20)
    with many(shared, 100) as clients:
        for client in clients:
            send_all_that_is_taken(client, half)
        assert_others_are_served(shared)
        kept = [client for client in clients if send_all_that_is_taken(client, b'","method":"zz"}\n')]
        assert sum(bool(until_closed_or_line(client)) for client in kept) < 30
    assert peak_mib(shared.process) < MAX_PEAK_MIB


def test_a_client_that_never_fetches_its_answers_is_read_no_further_and_others_are_served(shared: Served) -> None:
    with connect(shared.stores) as client:
        client.setblocking(False)
        request = line("x" * 50_000, "zz")
        pending, sent, stood_still = b"", 0, 0
        while stood_still < 3:
            assert sent < 16 * 2**20, "the server takes all, and keeps every answer"
            pending = pending or request
            try:
                moved = client.send(pending)
                pending, sent, stood_still = pending[moved:], sent + moved, 0
            except BlockingIOError:
                # Another client's answer: the server has had its turn, and could have read.
                assert_others_are_served(shared)
                stood_still += 1
        assert sent > 2**20
    assert peak_mib(shared.process) < MAX_PEAK_MIB


def test_answers_that_nobody_fetches_are_kept_within_what_is_allowed_in_all(shared: Served) -> None:
    # Escaped, an answer is three times its request.
    request = '{{"id":"{}","method":"zz"}}\n'.format("é" * (MAX_LINE // 2 - 100)).encode()
    with many(shared, 40) as clients:
        kept = [client for client in clients if send_all_that_is_taken(client, request)]
        assert_others_are_served(shared)
        assert kept
    assert peak_mib(shared.process) < MAX_PEAK_MIB


def test_stalled_half_lines_end_at_their_deadline_and_free_their_places(shared: Served) -> None:
    with many(shared, MAX_CONNECTIONS) as clients:
        for client in clients:
            client.sendall(line()[:-5])
        with connect(shared.stores) as one_more:
            assert until_closed(one_more) == b""
        assert [until_closed(client) for client in clients] == [b""] * MAX_CONNECTIONS
        assert_others_are_served(shared)


def test_a_connection_beyond_the_limit_is_closed_and_one_that_ends_makes_room(shared: Served) -> None:
    with many(shared, MAX_CONNECTIONS) as clients:
        with connect(shared.stores) as one_more:
            assert until_closed(one_more) == b""
        clients[0].close()
        clients[1].sendall(SMALL)
        answers(clients[1], 1)
        assert_others_are_served(shared)


def test_sigterm_answers_what_was_read_then_closes_and_removes_the_socket(stores: Stores) -> None:
    with gateway(stores) as process, connect(stores) as client:
        with writing(stores.mirror):
            # In one packet; while the server waits for the store, most of it is read and unanswered.
            client.sendall(line("0") + SMALL * 1000)
            until_taken(client)
            process.terminate()
        found = until_closed(client).splitlines()
        assert process.wait(60) == 0
    assert found == [b'{"id":"0","result":{"id":"inv-1"}}'] + [UNKNOWN] * 1000
    assert not path(stores).exists()


def test_sigterm_ends_a_server_with_stalled_clients_and_gives_the_others_their_answers(stores: Stores) -> None:
    ids = [f"{number}" + "x" * 100_000 for number in range(10)]
    with gateway(stores) as process, ExitStack() as stack:
        stalled, honest = [[stack.enter_context(connect(stores)) for _ in range(5)] for _ in range(2)]
        for client in stalled + honest:
            client.sendall(b"".join(line(id_, "zz") for id_ in ids) + b'{"half')
            until_taken(client)
        process.terminate()
        found = [until_closed(client) for client in honest]
        assert process.wait(60) == 0
    assert [answer.count(b"\n") for answer in found] == [len(ids)] * 5
