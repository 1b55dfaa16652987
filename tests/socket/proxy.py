"""A proxy between relay and gateway that spoils what the test tells it to."""

import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.socket.accepting import accepting

Spoil = Callable[[bytes], tuple[bytes, bool]]
"""What becomes of a piece of the gateway's answers on its way back, and whether the connection is cut after it."""


class Proxy:
    """Requests pass as they are; answers pass through ``spoil``. ``spoilt`` counts the pieces changed or cut."""

    def __init__(self, there: Path, spoil: Spoil) -> None:
        self.spoilt = 0
        self._there = there
        self._spoil = spoil

    def talk(self, client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as gateway, suppress(OSError):
            gateway.connect(str(self._there))
            self._pump(client, gateway)

    def _pump(self, client: socket.socket, gateway: socket.socket) -> None:
        while True:
            for ready in select.select([client, gateway], [], [])[0]:
                data = ready.recv(65536)
                if not data:
                    return
                if ready is client:
                    gateway.sendall(data)
                    continue
                passed, cut = self._spoil(data)
                self.spoilt += passed != data
                client.sendall(passed)
                if cut:
                    return


@contextmanager
def proxy(here: Path, there: Path, spoil: Spoil) -> Iterator[Proxy]:
    between = Proxy(there, spoil)
    with accepting(here, between.talk):
        yield between
