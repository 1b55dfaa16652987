"""A test that plays systemd: the socket that a service talks to, and what is heard on it, and how long nothing is."""

import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.system.processes import DEADLINE_SECONDS

READY, WORKS, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


@dataclass(frozen=True, slots=True)
class Systemd:
    """After ``deadline`` seconds without a word it would kill the service."""

    address: str
    """As in NOTIFY_SOCKET: ``@`` stands for the NUL of an abstract one."""
    listener: socket.socket
    deadline: float

    @property
    def env(self) -> dict[str, str]:
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(self.deadline * 1_000_000))}

    def hear(self) -> list[str]:
        """The words of the next message; none if the deadline passes without one."""
        self.listener.settimeout(self.deadline)
        try:
            return self.listener.recv(4096).decode().split("\n")
        except TimeoutError:
            return []

    def wait_for(self, word: str) -> None:
        """Fails where the service ended, or is no service, without it."""
        self.listener.settimeout(DEADLINE_SECONDS)
        while word not in self.listener.recv(4096).decode().split("\n"):
            pass

    def hears_that_it_works(self, times: int = 2) -> None:
        """From now on, so many times in a row in time."""
        self.forget()
        for _ in range(times):
            words = self.hear()
            assert words, "systemd would have killed it"
            assert words == [WORKS]

    def would_kill(self) -> bool:
        """Whether the deadline passes without another word, beyond those that are under way."""
        self.forget()
        return self.hear() == []

    def forget(self) -> None:
        self.listener.setblocking(False)
        try:
            while self.listener.recv(4096):
                pass
        except BlockingIOError:
            return


@contextmanager
def systemd_at(folder: Path, *, deadline: float, abstract: bool = False) -> Iterator[Systemd]:
    address = f"@relay-test-{os.getpid()}-{uuid.uuid4().hex}" if abstract else str(folder / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{address[1:]}" if abstract else address)
        yield Systemd(address, listener, deadline)
