"""Serving the gateway's socket: one thread, one loop; requests that wait together share one transaction."""

import contextlib
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from gateway_store.connection import Connection
from gateway_store.errors import MirrorRefusedError
from gateway_store.listening import SocketFile, peer_uid
from gateway_store.mirror import mirror_batch
from gateway_store.wire import Request, error_reply, read_request, refusal_reply, result_reply
from outbox.errors import DatabaseMissingError
from outbox.redact import redact_reason

MAX_CONNECTIONS = 256
MAX_BATCH = 500
# Of one connection in a turn, so that one with a heap of requests does not hold up the others.
MAX_LINES_A_TURN = 128
# All unfinished lines together; beyond it the longest one's connection is dropped.
MAX_UNFINISHED = 64 * 2**20
LINE_DEADLINE_SECONDS = 5.0
SEND_DEADLINE_SECONDS = 30.0
LOOK_AROUND_SECONDS = 0.5
LAST_WORDS_SECONDS = 2.0

log = structlog.get_logger()


@dataclass(slots=True)
class Server:
    """The gateway's server on one listening socket. `serve` returns after `stop`, with all that was read answered."""

    engine: Engine
    file: SocketFile
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _connections: set[Connection] = field(default_factory=set)
    _asking: deque[Connection] = field(default_factory=deque)
    _bell: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
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
        self._answer()

    def _accept(self) -> None:
        try:
            client, _ = self.file.socket.accept()
        except OSError:
            return
        uid = peer_uid(client)
        if uid not in (os.geteuid(), 0):
            log.warning("connection_refused", reason="foreign user", uid=uid)
            client.close()
        elif len(self._connections) >= MAX_CONNECTIONS:
            log.warning("connection_refused", reason=f"{MAX_CONNECTIONS} connections are open")
            client.close()
        else:
            client.setblocking(False)
            connection = Connection(client)
            self._connections.add(connection)
            self._selector.register(client, selectors.EVENT_READ, connection)

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
        replies = iter(self._apply(requests))
        asked = dict.fromkeys(connection for connection, _ in turn)
        for connection, request in turn:
            if request is not None:
                connection.reply(request if isinstance(request, bytes) else next(replies))
        for connection in asked:
            connection.write(time.monotonic())
            self._settle(connection)

    def _next_lines(self) -> Iterator[tuple[Connection, bytes]]:
        taken = 0
        for _ in range(len(self._asking)):
            if taken >= MAX_BATCH:
                return
            connection = self._asking.popleft()
            for _ in range(min(MAX_LINES_A_TURN, len(connection.lines))):
                taken += 1
                yield connection, connection.lines.popleft()
            if connection.lines:
                self._asking.append(connection)

    def _apply(self, requests: Sequence[Request]) -> list[bytes]:
        """A reply a request. Each is durable before its reply is sent; an unknown outcome is reported as an error."""
        if not requests:
            return []
        try:
            with Session(self.engine) as session, session.begin():
                results = mirror_batch(session, [request.invite for request in requests], first_created_at_wins=True)
        except (DBAPIError, DatabaseMissingError) as error:
            reason = redact_reason(f"SQLiteError: {getattr(error, 'orig', None) or error}")
            log.warning("store_unusable", reason=reason, requests=len(requests))
            return [error_reply(request.id, reason) for request in requests]
        return [
            refusal_reply(request.id, result)
            if isinstance(result, MirrorRefusedError)
            else result_reply(request.id, request.invite.id)
            for request, result in zip(requests, results, strict=True)
        ]

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
        for connection in list(self._connections):
            if _is_late(connection.unfinished_since, now, LINE_DEADLINE_SECONDS) or _is_late(
                connection.unsent_since, now, SEND_DEADLINE_SECONDS
            ):
                log.warning("connection_dropped", reason="it stalled")
                self._drop(connection)
        while sum(len(one.unfinished) for one in self._connections) > MAX_UNFINISHED:
            log.warning("connection_dropped", reason="all unfinished lines together are too long")
            self._drop(max(self._connections, key=lambda one: len(one.unfinished)))
        old = self.file.socket
        if self.file.rebind_if_gone():
            log.warning("rebound", reason="the socket's file vanished", path=str(self.file.path))
            self._selector.unregister(old)
            self._selector.register(self.file.socket, selectors.EVENT_READ)

    def _say_goodbye(self) -> None:
        self.file.close()
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while self._asking:
            self._answer()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.socket.settimeout(max(0.001, deadline - time.monotonic()))
                connection.socket.sendall(connection.unsent)
            self._drop(connection)
        self._selector.close()
        for end in self._bell:
            end.close()


def _is_late(since: float | None, now: float, limit: float) -> bool:
    return since is not None and now - since > limit
