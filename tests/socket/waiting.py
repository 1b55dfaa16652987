"""What can be waited for from outside a server: that it took the bytes sent, that it stands still, that it hung up."""

import array
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from outbox import open_engine, writing

DEADLINE_SECONDS = 60.0


def until_taken(client: socket.socket) -> None:
    """Until the other end has read all that was sent; asked of the kernel, which knows."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    left = array.array("i", [1])
    while left[0]:
        assert time.monotonic() < deadline, f"{left[0]} bytes were never read"
        os.sched_yield()
        fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, left)


@contextmanager
def frozen(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """While it stands still, what several clients send piles up before it."""
    process.send_signal(signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


@contextmanager
def frozen_in_mid_transaction(process: "subprocess.Popen[bytes]", url: str) -> Iterator[None]:
    """It stands still between BEGIN and COMMIT: at a moment at which nobody else can write to its store."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    other = open_engine(url, create=False, busy_timeout=0)
    while True:
        while not _is_locked(other):
            assert time.monotonic() < deadline, "the server never wrote"
        with frozen(process):
            if _is_locked(other):
                other.dispose()
                yield
                return


def _is_locked(engine: Engine) -> bool:
    try:
        with writing(engine):
            return False
    except OperationalError:
        return True


def has_hung_up(client: socket.socket) -> bool:
    """Whether the other end has closed; found out without fetching anything from it."""
    poller = select.poll()
    poller.register(client, 0)
    return bool(poller.poll(0))


def until_logged(process: "subprocess.Popen[bytes]", event: str) -> dict[str, Any]:
    assert process.stderr is not None
    for text in process.stderr:
        found: dict[str, Any] = json.loads(text)
        if found["event"] == event:
            return found
    raise AssertionError(f"the server ended without {event!r}")


def until_closed(client: socket.socket) -> bytes:
    """What still comes, until the other end closes; a reset is one way to."""
    received = b""
    while True:
        try:
            data = client.recv(65536)
        except ConnectionResetError:
            return received
        if not data:
            return received
        received += data


def until_closed_or_line(client: socket.socket) -> bytes:
    """The next line, or nothing from an end that closes."""
    with client.makefile("rb") as replies:
        try:
            return replies.readline()
        except ConnectionResetError:
            return b""


def peak_mib(process: "subprocess.Popen[bytes]") -> float:
    """The most memory that the process ever had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    (kib,) = (int(one.split()[1]) for one in status.splitlines() if one.startswith("VmHWM"))
    return kib / 1024
