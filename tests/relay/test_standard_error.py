"""Standard error that keeps nobody waiting: its order, what is dropped and counted, the descriptor others share."""

import fcntl
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.standard_error import MOST_BYTES, PATIENCE_SECONDS, DroppingStream

MANY = 60
LINE = b"%06d " + b"x" * 200 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


def read_all(reader: int, writer: int, stream: DroppingStream) -> list[bytes]:
    """What comes out until the stream has written all of it."""
    found: list[bytes] = []

    def read() -> None:
        while data := os.read(reader, 65536):
            found.append(data)

    thread = threading.Thread(target=read)
    thread.start()
    while stream._unwritten_bytes:
        stream.flush()
    os.close(writer)
    thread.join(30)
    return b"".join(found).splitlines(keepends=True)


def test_lines_come_out_whole_and_in_order(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = DroppingStream(writer)
    lines = [LINE % number for number in range(2_000)]

    for line in lines:
        stream.write(line)

    assert read_all(reader, writer, stream) == lines


def test_what_nobody_reads_is_dropped_and_counted_where_it_is_missing(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = DroppingStream(writer)
    stream.dropped_line = "%d dropped\n".__mod__
    many = 2 * MOST_BYTES // len(LINE % 0)

    for number in range(many):
        stream.write(LINE % number)

    came, dropped = 0, 0
    for line in read_all(reader, writer, stream):
        if line.endswith(b" dropped\n"):
            dropped += int(line.split()[0])
        else:
            assert line == LINE % (came + dropped), "neither moved nor missing without being counted"
            came += 1
    assert came + dropped == many
    assert min(came, dropped) > 0


def test_a_burst_larger_than_the_queue_is_whole_where_somebody_reads(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = DroppingStream(writer)
    many = 4 * MOST_BYTES // len(LINE % 0)
    found = bytearray()

    def read() -> None:
        while data := os.read(reader, 65536):
            found.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    for number in range(many):
        stream.write(LINE % number)
    ended = stream.end()
    os.close(writer)
    thread.join(30)

    assert ended
    assert found.splitlines(keepends=True) == [LINE % number for number in range(many)]


def test_a_flush_waits_for_what_was_written_and_not_twice_for_a_reader_that_does_not_read(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    stream = DroppingStream(writer)
    stream.write(b"read\n")
    stream.flush()
    read = os.read(reader, 100)
    stream.write(b"x" * 2**17)
    stream.flush()

    started = time.monotonic()
    for _ in range(MANY):
        stream.flush()
    ended = stream.end()

    assert read == b"read\n"
    assert not ended
    # Were each to wait, this would take twice as long.
    assert time.monotonic() - started < MANY / 2 * PATIENCE_SECONDS


def test_a_descriptor_that_others_share_keeps_its_flags_and_may_be_non_blocking(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    before = fcntl.fcntl(writer, fcntl.F_GETFL)
    stream = DroppingStream(writer)
    lines = [LINE % number for number in range(2_000)]

    for line in lines:
        stream.write(line)
    after = fcntl.fcntl(writer, fcntl.F_GETFL)

    assert read_all(reader, writer, stream) == lines
    assert after == before


def test_a_line_cut_short_by_a_full_disk_does_not_run_into_the_next(tmp_path: Path) -> None:
    log = tmp_path / "log"
    # A limit on the size of files stands in for the disk: it, too, lets a part of the line through.
    script = f"""
import os, resource, sys
from relay.standard_error import DroppingStream
resource.setrlimit(resource.RLIMIT_FSIZE, (10, {resource.RLIM_INFINITY}))
stream = DroppingStream(os.open({str(log)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
stream.dropped_line = "%d dropped\\n".__mod__
for line in (b"first\\n", b"second\\n", b"third\\n"):
    stream.write(line)
    stream.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
stream.write(b"fourth\\n")
stream.flush()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)

    assert log.read_text().splitlines() == ["first", "seco", "fourth", "2 dropped"]
