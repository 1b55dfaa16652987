"""Requests that wait together share one transaction, and none stays open while a client takes its time."""

import json
import struct
from contextlib import ExitStack
from pathlib import Path

from outbox import open_engine, writing
from tests.conftest import write
from tests.socket.clients import NO_SUCH_METHOD, answers, ask, connect, line, params
from tests.socket.conftest import Served
from tests.socket.waiting import frozen, until_taken


def commits(wal: Path) -> int:
    """Commits in SQLite's write-ahead log: a frame that ends one holds the size of the database, others hold 0."""
    data = wal.read_bytes()
    page_size, salts = struct.unpack(">I", data[8:12])[0], data[16:24]
    frames = [data[at : at + 24] for at in range(32, len(data), 24 + page_size)]
    return sum(1 for frame in frames if frame[8:16] == salts and frame[4:8] != b"\0\0\0\0")


def assert_others_can_write(shared: Served) -> None:
    """Without waiting at all."""
    other = open_engine(shared.stores.mirror_url, create=False, busy_timeout=0)
    with writing(other):
        pass
    other.dispose()


def test_requests_of_many_clients_that_wait_together_are_one_commit(shared: Served) -> None:
    # Kept open, or the log would be folded into the database.
    write(shared.stores.mirror, "UPDATE contacts SET updated_at = updated_at")
    wal = shared.stores.folder / "gateway.db-wal"
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(shared.stores)) for _ in range(20)]
        for client in clients:
            client.sendall(b'{"id":"accepted","method":"zz"}\n')
            answers(client, 1)
        before = commits(wal)
        with frozen(shared.process):
            for number, client in enumerate(clients):
                ids = [f"b-{number}-{one}" for one in range(10)]
                client.sendall(b"".join(line(id_, given=params(id=id_)) for id_ in ids))
        for number, client in enumerate(clients):
            assert [one["result"]["id"] for one in answers(client, 10)] == [f"b-{number}-{one}" for one in range(10)]
    assert commits(wal) == before + 1


def test_clients_that_wait_at_the_door_are_let_in_together(shared: Served) -> None:
    write(shared.stores.mirror, "UPDATE contacts SET updated_at = updated_at")
    wal = shared.stores.folder / "gateway.db-wal"
    before = commits(wal)
    with ExitStack() as stack:
        with frozen(shared.process):
            clients = [stack.enter_context(connect(shared.stores)) for _ in range(20)]
            for number, client in enumerate(clients):
                client.sendall(line("1", given=params(id=f"door-{number}")))
        for number, client in enumerate(clients):
            assert answers(client, 1) == [{"id": "1", "result": {"id": f"door-{number}"}}]
    assert commits(wal) == before + 1


def test_requests_one_after_the_other_are_a_commit_each_and_durable_when_answered(shared: Served) -> None:
    write(shared.stores.mirror, "UPDATE contacts SET updated_at = updated_at")
    wal = shared.stores.folder / "gateway.db-wal"
    with connect(shared.stores) as client:
        for number in range(5):
            before = commits(wal)
            client.sendall(line("1", given=params(id=f"single-{number}")))
            answers(client, 1)
            assert commits(wal) == before + 1


def test_no_transaction_is_open_while_a_client_has_sent_half_a_request(shared: Served) -> None:
    data = line("1", given=params(id="half"))
    with connect(shared.stores) as client:
        client.sendall(line("0") + data[:-20])
        answers(client, 1)
        until_taken(client)
        # Answered after the half line was read.
        ask(shared.stores, line())
        assert_others_can_write(shared)
        client.sendall(data[-20:])
        assert answers(client, 1) == [{"id": "1", "result": {"id": "half"}}]


def test_no_transaction_is_open_while_a_client_does_not_fetch_its_answers(shared: Served) -> None:
    # More than the kernel keeps for it, so that the server holds the rest.
    ids = [f"{number}" + "x" * 100_000 for number in range(12)]
    with connect(shared.stores) as client:
        client.sendall(b"".join(line(id_) for id_ in ids))
        until_taken(client)
        assert ask(shared.stores, line("other")) == [{"id": "other", "result": {"id": "inv-1"}}]
        assert_others_can_write(shared)
        with client.makefile("rb") as replies:
            assert [json.loads(replies.readline())["id"] for _ in ids] == ids


def test_a_locked_store_is_an_error_that_says_so_and_the_connection_stays_usable(shared: Served) -> None:
    with connect(shared.stores) as client:
        with writing(shared.stores.mirror):
            client.sendall(line("1", given=params(id="locked")) + b'{"id":"2","method":"zz"}\n')
            locked, unknown = answers(client, 2)
        assert locked.keys() == {"id", "error"}
        assert (locked["id"], "locked" in locked["error"]) == ("1", True)
        assert unknown == {"id": "2", "error": "Unknown method: zz"} | NO_SUCH_METHOD
        assert shared.stores.mirrored("locked") is None
        client.sendall(line("3", given=params(id="locked")))
        assert answers(client, 1) == [{"id": "3", "result": {"id": "locked"}}]
    assert shared.stores.mirrored("locked") is not None
