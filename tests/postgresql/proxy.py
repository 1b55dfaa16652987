"""A proxy before a server that can lose a commit, or the answer to one, and the connection with it."""

import select
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from tests.postgresql.listening import listening
from tests.postgresql.protocol import Frame, Peer, connect

_COMMIT = b"COMMIT"


class Fate(Enum):
    """What becomes of a commit."""

    PASSES = auto()
    LOST = auto()
    """Cut before the server has it: it rolls back."""
    UNANSWERED = auto()
    """Cut once the server has committed, before the client hears of it."""


Judge = Callable[[Sequence[bytes]], Fate]
"""Decides by the statements of a transaction, asked when its COMMIT is on its way."""


class Proxy:
    """``cut`` counts the commits at which a connection was cut."""

    def __init__(self, server: Path, judge: Judge) -> None:
        self.cut = 0
        self._server = server
        self._judge = judge

    def talk(self, client_socket: socket.socket) -> None:
        client = Peer(client_socket)
        wanted = client.startup()
        if not wanted:
            return
        server, greeting = connect(self._server, wanted)
        with server.socket:
            client.send(*greeting)
            statements: list[bytes] = []
            while True:
                if server in select.select([client, server], [], [])[0]:
                    if not server.receive():
                        return
                    client.send(*server.frames())
                elif not client.receive():
                    return
                else:
                    for frame in client.frames():
                        if not self._forward(server, frame, statements):
                            return

    def _forward(self, server: Peer, frame: Frame, statements: list[bytes]) -> bool:
        """False where the connection is to be cut now."""
        text = _statement(frame)
        fate = self._judge(statements) if text == _COMMIT else Fate.PASSES
        if text is not None and text.startswith(b"BEGIN"):
            statements.clear()
        if text is not None:
            statements.append(text)
        self.cut += fate is not Fate.PASSES
        if fate is not Fate.LOST:
            server.send(frame)
        if fate is Fate.UNANSWERED:
            while not any(answer.kind == b"Z" for answer in server.frames()):
                assert server.receive(), "the server must have committed"
        return fate is Fate.PASSES


def _statement(frame: Frame) -> bytes | None:
    """Asked at once, or parsed ahead of its parameters."""
    match frame.kind:
        case b"Q":
            return frame.body.rstrip(b"\0")
        case b"P":
            return frame.body.split(b"\0")[1]
        case _:
            return None


@contextmanager
def proxy(server: Path, judge: Judge) -> Iterator[tuple[Proxy, int]]:
    """The proxy, and the port on which it listens."""
    between = Proxy(server, judge)
    with listening(between.talk) as port:
        yield between, port
