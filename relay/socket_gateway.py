"""The gateway behind a Unix socket: one kept connection, requests in flight within a window, answers matched by id."""

import os
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from gateway_store.listening import peer_uid
from outbox import Message, Outcome, Verdict
from outbox.redact import redact_reason
from relay.gateway import GatewayUnreachableError
from relay.socket_protocol import ConfusedAnswerError, probe_line, read_answer, request_line, verdict_of

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
# Enough in flight to fill a transaction of the server, little enough to be answered in time by one that commits each
# request by itself.
WINDOW_REQUESTS = 500
# Made ahead of what the gateway has taken.
OUTGOING_BYTES = 2**17
MAX_ANSWER = 2**24
# Of all a batch: a gateway that answers, but slowly, must not keep a relay from stopping.
DELIVERY_SECONDS = 15.0

log = structlog.get_logger()


class _BrokenError(Exception):
    """The connection cannot be used any more; the message says why."""


@dataclass(slots=True)
class _Flight:
    """One exchange: messages not sent yet, bytes on their way, and the messages whose answers are awaited, by request
    id. Lines are made when there is room for them, so that the gateway works on the first while the next are made."""

    waiting: deque[Message]
    outgoing: bytearray = field(default_factory=bytearray)
    awaited: dict[str, Message] = field(default_factory=dict)
    cut_off: bool = False
    """The gateway takes no more; what it has answered can still be read."""

    @property
    def has_room(self) -> bool:
        return len(self.awaited) < WINDOW_REQUESTS and len(self.outgoing) < OUTGOING_BYTES


class SocketGateway:
    """A gateway that serves its socket, ours or the real one. A lost answer is an unknown outcome: deliver again."""

    def __init__(self, path: Path, topic: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._path = path
        self._topic = topic
        self._answer_seconds = answer_seconds
        self._socket: socket.socket | None = None
        self._received = bytearray()
        self._last_id = 0

    def deliver(self, messages: Sequence[Message]) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        try:
            self._exchange(_Flight(deque(messages)), verdicts)
        except (_BrokenError, ConfusedAnswerError, OSError) as error:
            self.close()
            reason = redact_reason(f"{self._path}: {error}")
            log.warning("gateway_connection_broken", reason=reason, unanswered=len(messages) - len(verdicts))
            unreachable = Verdict(Outcome.UNREACHABLE, reason)
            return [verdicts.get(message.seq, unreachable) for message in messages]
        except BaseException:
            # Half an exchange may lie on the connection.
            self.close()
            raise
        return [verdicts[message.seq] for message in messages]

    def probe(self) -> None:
        try:
            connection = self._connected()
            connection.sendall(probe_line())
            self._await_answer(time.monotonic() + self._answer_seconds)
        except (_BrokenError, OSError) as error:
            self.close()
            raise GatewayUnreachableError(redact_reason(f"{self._path}: {error}")) from error

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket = None
        self._received.clear()

    def _fill(self, flight: _Flight, verdicts: dict[int, Verdict]) -> None:
        while flight.waiting and flight.has_room:
            message = flight.waiting.popleft()
            if message.topic != self._topic:
                reason = f"unknown topic {message.topic!r}; the socket cannot carry it"
                verdicts[message.seq] = Verdict(Outcome.REFUSED_FOR_GOOD, reason)
                continue
            self._last_id += 1
            line = request_line(message, str(self._last_id))
            if isinstance(line, Verdict):
                verdicts[message.seq] = line
            else:
                flight.outgoing += line
                flight.awaited[str(self._last_id)] = message

    def _exchange(self, flight: _Flight, verdicts: dict[int, Verdict]) -> None:
        self._fill(flight, verdicts)
        if not flight.awaited:
            return
        connection = self._connected()
        end = time.monotonic() + DELIVERY_SECONDS
        deadline = time.monotonic() + self._answer_seconds
        while flight.awaited or flight.outgoing:
            # Reads while it sends: two sides that only send to each other would wait for ever.
            readable, writable, _ = select.select(
                [connection], [connection] if flight.outgoing else [], [], max(0.0, deadline - time.monotonic())
            )
            if not readable and not writable:
                raise _BrokenError(f"no answer within {self._answer_seconds:g} s")
            if time.monotonic() > end:
                raise _BrokenError(f"not all answered within {DELIVERY_SECONDS:g} s")
            if writable and not self._send(connection, flight):
                flight.cut_off = True
                flight.waiting.clear()
                flight.outgoing.clear()
            elif writable:
                self._fill(flight, verdicts)
            if readable:
                self._receive(connection)
                for line in self._answers():
                    _judge(line, flight.awaited, verdicts)
                    deadline = time.monotonic() + self._answer_seconds
                self._fill(flight, verdicts)

        if flight.cut_off:
            raise _BrokenError("the gateway closed the connection before it had taken all")

    def _send(self, connection: socket.socket, flight: _Flight) -> bool:
        try:
            del flight.outgoing[: connection.send(flight.outgoing)]
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(CONNECT_SECONDS)
                connection.connect(str(self._path))
                _refuse_stranger(connection, self._path)
            except (OSError, _BrokenError):
                connection.close()
                raise
            connection.settimeout(self._answer_seconds)
            self._socket = connection
        return self._socket

    def _receive(self, connection: socket.socket) -> None:
        data = connection.recv(2**18)
        if not data:
            raise _BrokenError("the gateway closed the connection before it had answered")
        self._received += data
        if len(self._received) > MAX_ANSWER and b"\n" not in self._received:
            raise _BrokenError(f"an answer longer than {MAX_ANSWER} bytes")

    def _answers(self) -> list[bytes]:
        *whole, rest = bytes(self._received).split(b"\n")
        self._received[:] = rest
        return whole

    def _await_answer(self, deadline: float) -> None:
        connection = self._connected()
        while not self._answers():
            readable, _, _ = select.select([connection], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise _BrokenError(f"no answer within {self._answer_seconds:g} s")
            self._receive(connection)


def _refuse_stranger(connection: socket.socket, path: Path) -> None:
    """Whoever can write to the folder could sit on the path, and take hashes; its owner, this user and root may."""
    if not hasattr(socket, "SO_PEERCRED"):
        return
    uid = peer_uid(connection)
    if uid not in (os.geteuid(), 0, path.parent.stat().st_uid):
        raise _BrokenError(f"the server there runs as user {uid}, who owns neither this process nor the folder")


def _judge(line: bytes, awaited: dict[str, Message], verdicts: dict[int, Verdict]) -> None:
    request_id, answer = read_answer(line)
    message = awaited.pop(request_id, None)
    if message is None:
        raise ConfusedAnswerError(f"an answer to nothing that was asked: {answer.get('error') or 'a wrong id'}")
    verdicts[message.seq] = verdict_of(answer, message)
