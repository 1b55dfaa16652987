"""A pooler in transaction mode: each transaction of a client gets another session of the server than the one before."""

import queue
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.postgresql.listening import listening
from tests.postgresql.protocol import Frame, Peer, connect

SESSIONS = 4
_IDLE, _READY, _TERMINATE, _NOTIFICATION = b"I", b"Z", b"X", b"A"


class Pooler:
    """Nothing is reset between two clients of a session: whatever one leaves there, others meet.

    ``used`` has, for each connection of a client, the sessions of its transactions in order.
    """

    def __init__(self, server: Path) -> None:
        self.used: list[list[int]] = []
        self._server = server
        self._mutex = threading.Lock()
        self._pools: dict[str, queue.SimpleQueue[tuple[int, Peer]]] = {}
        self._greeting: list[Frame] = []
        self._sessions: list[Peer] = []

    def talk(self, client_socket: socket.socket) -> None:
        client = Peer(client_socket)
        wanted = client.startup()
        if not wanted:
            return
        assert wanted.keys() <= {"user", "database", "application_name", "client_encoding"}, "a pooler refuses others"
        pool = self._pool(wanted["user"], wanted["database"])
        client.send(*self._greeting)
        used: list[int] = []
        self.used.append(used)
        while (frame := _next(client)) is not None and frame.kind != _TERMINATE:
            number, session = pool.get(timeout=30)
            used.append(number)
            if not _one_transaction(client, session, frame):
                session.socket.close()
                session = self._connect(wanted["user"], wanted["database"])
            pool.put((number, session))

    def close(self) -> None:
        for session in self._sessions:
            session.socket.close()

    def _pool(self, user: str, database: str) -> "queue.SimpleQueue[tuple[int, Peer]]":
        with self._mutex:
            if database not in self._pools:
                self._pools[database] = queue.SimpleQueue()
                for number in range(SESSIONS):
                    self._pools[database].put((number, self._connect(user, database)))
            return self._pools[database]

    def _connect(self, user: str, database: str) -> Peer:
        session, self._greeting = connect(self._server, {"user": user, "database": database})
        self._sessions.append(session)
        return session


def _next(client: Peer) -> Frame | None:
    while (frame := next(client.frames(), None)) is None:
        if not client.receive():
            return None
    return frame


def _one_transaction(client: Peer, session: Peer, frame: Frame | None) -> bool:
    """From its first frame until the session is idle again; False if the client left it in the middle."""
    owed = 0
    while True:
        while frame is not None:
            if frame.kind == _TERMINATE:
                return False
            session.send(frame)
            owed += frame.kind in (b"Q", b"S")
            frame = next(client.frames(), None)
        ready, _, _ = select.select([client, session], [], [])
        if session in ready:
            if not session.receive():
                return False
            for answer in session.frames():
                # What a session heard while nobody had it is nobody's.
                if answer.kind == _NOTIFICATION and not owed:
                    continue
                client.send(answer)
                owed -= answer.kind == _READY
                if answer.kind == _READY and answer.body == _IDLE and not owed:
                    return True
        elif not client.receive():
            return False
        else:
            frame = next(client.frames(), None)


@contextmanager
def pooler(server: Path) -> Iterator[tuple[Pooler, int]]:
    """The pooler, and the port on which it listens."""
    between = Pooler(server)
    try:
        with listening(between.talk) as port:
            yield between, port
    finally:
        between.close()
