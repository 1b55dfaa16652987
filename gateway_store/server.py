"""Serving the gateway's socket: one thread, one loop; requests that wait together share one transaction."""

import contextlib
import os
import selectors
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine

from gateway_store.answering import answers
from gateway_store.connection import MAX_LINE, Connection
from gateway_store.listening import BACKLOG, ListenError, SocketFile, peer_uid
from gateway_store.wire import Request, read_request

MAX_BATCH = 500
# Of one connection in a turn, so that one with a heap of requests does not hold up the others.
MAX_LINES_A_TURN = 128
# Read, JSON can take twenty times its bytes, so that no turn reads much more than the longest line.
MAX_BATCH_BYTES = MAX_LINE
LOOK_AROUND_SECONDS = 0.5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server bears from its clients, and how long it takes to end."""

    connections: int = 256
    held: int = 64 * 2**20
    """Bytes kept for all connections together; beyond them the one that holds most is dropped."""
    line_seconds: float = 5.0
    """For an unfinished line, from its first byte."""
    send_seconds: float = 30.0
    """For a client to fetch some of its answers."""
    idle_seconds: float = 5.0
    """After which a connection that asks nothing gives way, when all are taken."""
    last_answers_seconds: float = 10.0
    """For what was read before the stop: with the store locked, every batch that is left waits for it."""
    last_words_seconds: float = 2.0
    """For all clients to fetch what is left."""


@dataclass(slots=True)
class Server:
    """The gateway's server on one listening socket. `serve` returns after `stop`, with all that was read answered."""

    engine: Engine
    file: SocketFile
    limits: Limits = field(default_factory=Limits)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _connections: set[Connection] = field(default_factory=set)
    _asking: deque[Connection] = field(default_factory=deque)
    _bell: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _refused: Counter[str] = field(default_factory=Counter)
    """How many since the last look around, by reason."""
    _stopping: bool = False

    def stop(self) -> None:
        """Safe in a signal handler and from other threads."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._bell[1].send(b"\0")

    def serve(self) -> None:
        self._selector.register(self._bell[0], selectors.EVENT_READ)
        self._selector.register(self.file.socket, selectors.EVENT_READ)
        look_around_at = 0.0
        try:
            while not self._stopping:
                self._take_turn(0.0 if self._asking else LOOK_AROUND_SECONDS)
                if time.monotonic() >= look_around_at:
                    self._look_around()
                    look_around_at = time.monotonic() + LOOK_AROUND_SECONDS
        finally:
            self._say_goodbye()

    def _take_turn(self, timeout: float) -> None:
        for key, events in self._selector.select(timeout):
            if key.fileobj is self.file.socket:
                self._accept()
            elif isinstance(key.data, Connection):
                self._attend(key.data, events)
        self._shed()
        self._answer()

    def _accept(self) -> None:
        """Those who wait, but no endless row of them."""
        for _ in range(BACKLOG):
            try:
                client, _ = self.file.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                # No file descriptor is left, for instance; one that is given back lets the next one in.
                self._refused[error.strerror or "cannot be accepted"] += 1
                self._drop_idlest()
                return
            self._admit(client)

    def _admit(self, client: socket.socket) -> None:
        if peer_uid(client) not in (os.geteuid(), 0):
            self._refused["foreign user"] += 1
            client.close()
            return
        if len(self._connections) >= self.limits.connections and not self._drop_idlest():
            self._refused[f"{self.limits.connections} connections are open, and none of them idle"] += 1
            client.close()
            return
        client.setblocking(False)
        connection = Connection(client, last_read=time.monotonic())
        self._connections.add(connection)
        self._selector.register(client, selectors.EVENT_READ, connection)

    def _drop_idlest(self) -> bool:
        """Makes room where a client only keeps its connection; it will come again when it has something to ask."""
        since = time.monotonic() - self.limits.idle_seconds
        idle = [one for one in self._connections if not one.held and one.last_read < since]
        if not idle:
            return False
        self._drop(min(idle, key=lambda one: one.last_read))
        return True

    def _attend(self, connection: Connection, events: int) -> None:
        now = time.monotonic()
        if events & selectors.EVENT_WRITE:
            connection.write(now)
        if events & selectors.EVENT_READ:
            connection.read(now)
            if connection.lines:
                self._asking.append(connection)
        self._settle(connection)

    def _answer(self) -> None:
        """Answers one batch of what waits, each client's requests in order, those refused alone."""
        turn = [(connection, read_request(line)) for connection, line in self._next_lines()]
        requests = [request for _, request in turn if isinstance(request, Request)]
        replies = iter(answers(self.engine, requests))
        asked = dict.fromkeys(connection for connection, _ in turn)
        for connection, request in turn:
            if request is not None:
                connection.reply(request if isinstance(request, bytes) else next(replies))
        for connection in asked:
            connection.write(time.monotonic())
            self._settle(connection)

    def _next_lines(self) -> Iterator[tuple[Connection, bytes]]:
        taken = taken_bytes = 0
        while self._asking and taken < MAX_BATCH and taken_bytes < MAX_BATCH_BYTES:
            connection = self._asking.popleft()
            for _ in range(min(MAX_LINES_A_TURN, len(connection.lines))):
                line = connection.next_line()
                taken += 1
                taken_bytes += len(line)
                yield connection, line
            if connection.lines:
                self._asking.append(connection)

    def _settle(self, connection: Connection) -> None:
        """Brings what the loop waits for in line with the connection's state, or ends it."""
        if connection.is_done:
            self._drop(connection)
            return
        events = selectors.EVENT_READ * connection.wants_read | selectors.EVENT_WRITE * bool(connection.unsent)
        registered = connection.socket in self._selector.get_map()
        if not events and registered:
            self._selector.unregister(connection.socket)
        elif events and registered:
            self._selector.modify(connection.socket, events, connection)
        elif events:
            self._selector.register(connection.socket, events, connection)

    def _drop(self, connection: Connection) -> None:
        if connection.socket in self._selector.get_map():
            self._selector.unregister(connection.socket)
        connection.lines.clear()
        connection.socket.close()
        self._connections.discard(connection)

    def _look_around(self) -> None:
        now = time.monotonic()
        for reason, count in self._refused.items():
            log.warning("connections_refused", reason=reason, count=count)
        self._refused.clear()
        for connection in list(self._connections):
            if connection.unfinished and not connection.wants_read:
                # The rest of its line may have come long ago; it is the server that does not look.
                connection.unfinished_since = now
            if _is_late(connection.unfinished_since, now, self.limits.line_seconds) or _is_late(
                connection.unsent_since, now, self.limits.send_seconds
            ):
                log.warning("connection_dropped", reason="it stalled")
                self._drop(connection)
        self._rebind_if_gone()

    def _shed(self) -> None:
        while sum(one.held for one in self._connections) > self.limits.held:
            log.warning("connection_dropped", reason="all connections together hold too much, and it holds most")
            self._drop(max(self._connections, key=lambda one: one.held))

    def _rebind_if_gone(self) -> None:
        old = self.file.socket
        try:
            if not self.file.rebind_if_gone():
                return
        except ListenError as error:
            # Those who are connected are still served, and the next look may find the path free.
            log.warning("not_rebound", reason=str(error))
            return
        log.warning("rebound", reason="the socket's file vanished", path=str(self.file.path))
        self._selector.unregister(old)
        self._selector.register(self.file.socket, selectors.EVENT_READ)

    def _say_goodbye(self) -> None:
        self.file.close()
        deadline = time.monotonic() + self.limits.last_answers_seconds
        while self._asking and time.monotonic() < deadline:
            self._answer()
        self._send_rest(time.monotonic() + self.limits.last_words_seconds)
        self._selector.close()
        for end in self._bell:
            end.close()

    def _send_rest(self, deadline: float) -> None:
        """To all at once: one that does not fetch its answers must not use up the others' time."""
        with selectors.PollSelector() as selector:
            for connection in self._connections:
                selector.register(connection.socket, selectors.EVENT_WRITE, connection)
            while self._connections and (left := deadline - time.monotonic()) > 0:
                for key, _ in selector.select(left):
                    key.data.write(time.monotonic())
                    if key.data.broken or not key.data.unsent:
                        selector.unregister(key.fileobj)
                        self._drop(key.data)
        for connection in list(self._connections):
            self._drop(connection)


def _is_late(since: float | None, now: float, limit: float) -> bool:
    return since is not None and now - since > limit
