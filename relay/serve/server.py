"""Serving a side's socket: one thread, one loop; lines that wait together are answered together."""

import contextlib
import os
import selectors
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from relay.serve.batch import Waiting
from relay.serve.connection import Connection
from relay.serve.door import Door
from relay.serve.limits import Limits
from relay.serve.listening import ListenError, SocketFile, peer_uid
from relay.serve.places import Places

LOOK_AROUND_SECONDS = 0.5

log = structlog.get_logger()


@dataclass(slots=True)
class Server:
    """One side's server on one listening socket. `serve` returns after `stop`, with all that was read answered."""

    replies: Callable[[Iterable[bytes]], Sequence[bytes]]
    """One for each line, in order, and empty where none is due; called in the server's own thread."""
    file: SocketFile
    limits: Limits = field(default_factory=Limits)
    on_turn: Callable[[], None] = lambda: None
    """Called after each turn, at rest twice a second."""
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _connections: Places = field(init=False)
    _door: Door = field(init=False)
    _waiting: Waiting = field(default_factory=Waiting)
    _bell: tuple[socket.socket, socket.socket] = field(default_factory=socket.socketpair)
    _refused: Counter[str] = field(default_factory=Counter)
    """How many since the last look around, by reason."""
    _stopping: bool = False

    def __post_init__(self) -> None:
        self._connections = Places(self.limits.connections, self._turn_away)
        self._door = Door(self.limits.connections, self._refused)

    def stop(self) -> None:
        """Safe in a signal handler and from other threads."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._bell[1].send(b"\0")

    def serve(self) -> None:
        self._selector.register(self._bell[0], selectors.EVENT_READ)
        self._selector.register(self.file.socket, selectors.EVENT_READ)
        self._selector.register(self._door, selectors.EVENT_READ)
        look_around_at = 0.0
        try:
            while not self._stopping:
                self._take_turn(0.0 if self._waiting else LOOK_AROUND_SECONDS)
                self.on_turn()
                if time.monotonic() >= look_around_at:
                    self._look_around()
                    look_around_at = time.monotonic() + LOOK_AROUND_SECONDS
        finally:
            self._say_goodbye()

    def _take_turn(self, timeout: float) -> None:
        ready = self._selector.select(timeout)
        # First those who are in: of them some have hung up, and free their places for those at the door.
        for key, events in ready:
            if isinstance(key.data, Connection):
                self._attend(key.data, events)
        if self._door.has_callers or any(key.fileobj in (self.file.socket, self._door) for key, _ in ready):
            self._let_in()
        self._shed()
        self._answer()

    def _let_in(self) -> None:
        for client in self._door.callers(self.file.socket):
            self._admit(client)
            if len(self._waiting) >= self.limits.connections:
                # Nobody could give way; the others may have their turn once these have their answers.
                return

    def _admit(self, client: socket.socket) -> None:
        if peer_uid(client) not in (os.geteuid(), 0):
            self._refused["foreign user"] += 1
            client.close()
            return
        self._attend(Connection(client), selectors.EVENT_READ)

    def _attend(self, connection: Connection, events: int) -> None:
        if connection.broken:
            # It gave way to one that was attended to before it.
            return
        now = time.monotonic()
        if events & selectors.EVENT_WRITE:
            connection.write(now)
        if events & selectors.EVENT_READ:
            connection.read(now)
            if not connection.is_done and not self._connections.keep(connection, self.limits.idle_seconds):
                return
            if connection.lines:
                self._waiting.add(connection)
        self._settle(connection)

    def _answer(self) -> None:
        """Answers one batch of what waits, each client's requests in order, those refused alone."""
        asking: list[Connection] = []
        replies = self.replies(self._waiting.batch(asking))
        for connection, reply in zip(asking, replies, strict=True):
            connection.reply(reply)
        for connection in dict.fromkeys(asking):
            connection.write(time.monotonic())
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        """Brings what the loop waits for in line with the connection's state, or ends it."""
        if connection.is_done:
            self._drop(connection)
            return
        events = selectors.EVENT_READ * connection.wants_read | selectors.EVENT_WRITE * bool(connection.unsent)
        if events == connection.watched:
            return
        if not events:
            self._selector.unregister(connection.socket)
        elif connection.watched:
            self._selector.modify(connection.socket, events, connection)
        else:
            self._selector.register(connection.socket, events, connection)
        connection.watched = events

    def _drop(self, connection: Connection) -> None:
        if connection.watched:
            self._selector.unregister(connection.socket)
        connection.watched = 0
        connection.lines.clear()
        connection.broken = True
        connection.socket.close()
        self._connections.forget(connection)

    def _turn_away(self, connection: Connection, reason: str) -> None:
        self._refused[reason] += 1
        self._drop(connection)

    def _look_around(self) -> None:
        now = time.monotonic()
        for reason, count in self._refused.items():
            log.warning("connections_refused", reason=reason, count=count)
        self._refused.clear()
        for connection in self._connections:
            if connection.unfinished and not connection.wants_read:
                # The rest of its line may have come long ago; it is the server that does not look.
                connection.unfinished_since = now
            if _is_late(connection.unfinished_since, now, self.limits.line_seconds) or _is_late(
                connection.unsent_since, now, self.limits.send_seconds
            ):
                log.warning("connection_dropped", reason="it stalled")
                self._drop(connection)
        if self._connections.are_taken:
            self._door.close_older_than(now - self.limits.silent_seconds)
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
        self._door.close()
        deadline = time.monotonic() + self.limits.last_answers_seconds
        while self._waiting and time.monotonic() < deadline:
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
        for connection in self._connections:
            self._drop(connection)


def _is_late(since: float | None, now: float, limit: float) -> bool:
    return since is not None and now - since > limit
