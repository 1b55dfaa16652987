"""The server of a side that is neither store: it needs a table of methods, and answers together what waits together."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay.serve.listening import SocketFile
from relay.serve.methods import Methods
from relay.serve.server import Server
from tests.socket.test_places import connected
from tests.socket.waiting import DEADLINE_SECONDS, until_closed


@dataclass
class Shop:
    """A side that adds numbers up; `batches` is what it was asked together."""

    batches: list[list[int | None]] = field(default_factory=list)

    def methods(self) -> Methods[int | None]:
        return Methods({"add": self.add, "total": lambda _: 0}, self.answer)

    def add(self, params: object) -> int | None:
        return params if isinstance(params, int) else None

    def answer(self, asked: Sequence[int | None]) -> list[dict[str, object]]:
        self.batches.append(list(asked))
        total = sum(number or 0 for batch in self.batches for number in batch)
        return [{"error": "no number"} if number is None else {"result": total, "of": len(asked)} for number in asked]


def line(id_: str, method: str, params: object = None) -> bytes:
    return json.dumps({"id": id_, "method": method, "params": params}).encode() + b"\n"


@contextmanager
def serving(shop: Shop, at: Path) -> Iterator[Path]:
    server = Server(shop.methods().replies, SocketFile(at))
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield at
    finally:
        server.stop()
        thread.join(DEADLINE_SECONDS)
    assert not thread.is_alive()


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "s" / "side.sock"


def test_a_table_of_methods_is_all_that_a_side_hands_over_to_be_served(at: Path) -> None:
    with serving(Shop(), at), connected(at) as client:
        client.sendall(line("a", "add", 1) + line("b", "subtract", 1) + line("c", "total"))
        client.shutdown(socket.SHUT_WR)
        assert until_closed(client).splitlines() == [
            b'{"id":"a","result":1,"of":2}',
            b'{"id":"b","error":"Unknown method: subtract","statusCode":404,"errorCode":"UNKNOWN_METHOD"}',
            b'{"id":"c","result":1,"of":2}',
        ]


def test_what_waits_together_is_answered_together_and_each_in_its_place() -> None:
    shop = Shop()
    lines = [line("a", "add", 1), b"\n", line("b", "add", "one"), b"{\n", line("c", "add", 2), line("d", "nothing")]
    replies = shop.methods().replies(lines)
    assert shop.batches == [[1, None, 2]]
    assert replies == [
        b'{"id":"a","result":3,"of":3}\n',
        b"",
        b'{"id":"b","error":"no number"}\n',
        b'{"id":"unknown","error":"Invalid JSON","statusCode":400,"errorCode":"BAD_REQUEST"}\n',
        b'{"id":"c","result":3,"of":3}\n',
        b'{"id":"d","error":"Unknown method: nothing","statusCode":404,"errorCode":"UNKNOWN_METHOD"}\n',
    ]


def test_a_side_is_not_asked_where_no_line_is_a_request_for_it() -> None:
    shop = Shop()
    assert shop.methods().replies([b"\n", b"{\n"]) == [
        b"",
        b'{"id":"unknown","error":"Invalid JSON","statusCode":400,"errorCode":"BAD_REQUEST"}\n',
    ]
    assert shop.batches == []
