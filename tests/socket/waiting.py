"""What can be waited for from outside a server: that it took the bytes sent, that it stands still, that it is gone."""

import array
import fcntl
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DEADLINE_SECONDS = 30.0


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
