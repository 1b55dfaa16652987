"""What reading a line costs the server: its bytes a few times, whatever it is made of."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.outbox.threads import run_together
from tests.socket.clients import BAD_REQUEST, NO_SUCH_METHOD_BYTES, answers, ask, connect, line, params
from tests.socket.conftest import Served
from tests.socket.waiting import peak_mib

MAX_LINE = 4 * 2**20
MOST_TIMES = 16
# Each is done with before the next is read.
TIMES_OF_MANY = 2
MOST_SECONDS = 0.3
NOT_READ = {"id": "unknown", "error": "Invalid JSON"} | BAD_REQUEST


def filled(with_: bytes, before: bytes = b"[", after: bytes = b"0]", size: int = MAX_LINE) -> bytes:
    return before + with_ * ((size - len(before) - len(after)) // len(with_)) + after


def keys(count: int) -> bytes:
    return b"{" + b",".join(b'"%x":0' % number for number in range(count)) + b"}"


TOO_MANY = {
    "empty lists": filled(b"[],"),
    "lists that never end": filled(b"[],", after=b""),
    "empty objects": filled(b"{},"),
    "empty texts": filled(b'"",'),
    "texts of one character": filled('"ࠀ",'.encode()),
    "escaped texts": filled(rb'"\u0800",'),
    "texts of quotation marks": filled(rb'"\"",'),
    "texts of backslashes": filled(rb'"\\",'),
    "small numbers": filled(b"0,"),
    "numbers": filled(b"1e5,"),
    "literals": filled(b"null,"),
    "objects with a key": filled(b'{"":0},'),
    "many keys": keys(400_000),
    "an id": filled(b"[],", b'{"id":[', b'[]],"method":"zz"}'),
    "a method": filled(b'{"":0},', b'{"id":1,"method":[', b"0]}"),
    "params": filled(b"[],", b'{"id":"1","method":"mirror_invite_create","params":[', b"[]]}"),
    "an unknown field": filled(b"0,", b'{"id":"1","method":"mirror_invite_create","params":{"x":[', b"0]}}"),
    "wide, below a long way down": filled(b"[],", b"[" * 900, b"0" + b"]" * 900),
}
FEW = {
    "depth": filled(b"[", b"", b""),
    "objects in objects": filled(b'{"a":', b"", b""),
    "quotation marks": filled(b'"', b"", b""),
    "backslashes": filled(b"\\", b"", b""),
    "digits": filled(b"9", b'{"id":1,"method":', b"}"),
    "spaces": filled(b" ", b'{"id":1,', b'"method":"zz"}'),
    "an id of two-byte characters": filled("é".encode(), b'{"id":"', b'","method":"zz"}'),
    "an id of emoji": filled("😀".encode(), b'{"id":"', b'","method":"zz"}'),
    "an id of escapes": filled(rb"\ud83d\ude00", b'{"id":"', b'","method":"zz"}'),
    "an id with one emoji": filled(b"a", b'{"id":"\xf0\x9f\x98\x80', b'","method":"zz"}'),
    "a method of commas": filled(b",", b'{"id":"1","method":"', b'"}'),
    "params of escapes": filled(rb"\u0000", b'{"id":"1","method":"mirror_invite_create","params":{"note":"', b'"}}'),
}


@contextmanager
def within_its_cost(process: "subprocess.Popen[bytes]", taken_bytes: int) -> Iterator[None]:
    forget_peak(process)
    memory, time = peak_mib(process), cpu_seconds(process)
    yield
    assert peak_mib(process) - memory <= MOST_TIMES * taken_bytes / 2**20
    assert cpu_seconds(process) - time <= MOST_SECONDS


def forget_peak(process: "subprocess.Popen[bytes]") -> None:
    """The most memory ever had is what it has now."""
    Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def cpu_seconds(process: "subprocess.Popen[bytes]") -> float:
    """Its own time, so that a busy machine does not count."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("data", TOO_MANY.values(), ids=TOO_MANY)
def test_a_line_of_more_values_than_any_request_has_is_refused_unread(shared: Served, data: bytes) -> None:
    ask(shared.stores, line())
    with within_its_cost(shared.process, len(data)):
        assert ask(shared.stores, data + b"\n" + line("after"), 2) == [
            NOT_READ,
            {"id": "after", "result": {"id": "inv-1"}},
        ]


@pytest.mark.parametrize("data", FEW.values(), ids=FEW)
def test_a_line_as_long_as_may_be_costs_its_bytes_a_few_times(shared: Served, data: bytes) -> None:
    ask(shared.stores, line())
    with within_its_cost(shared.process, len(data)), connect(shared.stores) as client:
        client.sendall(data + b"\n" + line("after"))
        with client.makefile("rb") as replies:
            replies.readline()
            assert replies.readline() == b'{"id":"after","result":{"id":"inv-1"}}\n'


MANY_LINES = {
    "ids": (b'{"method":"zz","id":[', b"[]]}", b',"error":"Unknown method: zz"' + NO_SUCH_METHOD_BYTES),
    "refused params": (
        b'{"id":1,"method":"mirror_invite_create","params":[',
        b"[]]}",
        b'instance of InvitePayload\\"}]","statusCode":400,"errorCode":"BAD_REQUEST"}\n',
    ),
}


@pytest.mark.parametrize(("before", "after", "end"), MANY_LINES.values(), ids=MANY_LINES)
def test_many_lines_of_as_many_values_as_may_be_cost_no_more_than_one_long_one(
    shared: Served, before: bytes, after: bytes, end: bytes
) -> None:
    data = filled(b"[],", before, after, 9_900) + b"\n"
    count = MAX_LINE // len(data)
    ask(shared.stores, line())
    with connect(shared.stores) as client, client.makefile("rb") as replies:
        forget_peak(shared.process)
        peak = peak_mib(shared.process)

        def ask_all() -> None:
            client.sendall(data * count)

        def fetch_all() -> None:
            for _ in range(count):
                assert replies.readline().endswith(end)

        run_together(ask_all, fetch_all)
        assert peak_mib(shared.process) - peak <= TIMES_OF_MANY * MAX_LINE / 2**20


@pytest.mark.parametrize("text", [",", "[{", '","', '\\","', "\\", '[{"a":0},'])
def test_a_text_may_hold_whatever_structure_looks_like(shared: Served, text: str) -> None:
    note = text * (100_000 // len(text))
    assert ask(shared.stores, line(given=params(id=f"text {text}", note=note))) == [
        {"id": "1", "result": {"id": f"text {text}"}}
    ]
    kept = shared.stores.mirrored(f"text {text}")
    assert kept is not None
    assert kept.note == note


def test_an_id_of_thousands_of_values_is_answered(shared: Served) -> None:
    id_ = [{"a": [number, None]} for number in range(1_600)]
    with connect(shared.stores) as client:
        client.sendall(line(id_))
        assert answers(client, 1) == [{"id": id_, "result": {"id": "inv-1"}}]
