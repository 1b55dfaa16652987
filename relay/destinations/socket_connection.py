"""One connection to a gateway's socket: small writes, answers cut where they are read, and an end to every wait."""

import select
import socket
import time
from pathlib import Path
from typing import NamedTuple

from outbox.database.trust import NAME_IT, trusted_at
from outbox.database.way import way_to
from outbox.errors import UntrustedPlaceError
from relay.serve.listening import peer_uid

CONNECT_SECONDS = 3.0
# What a relay that freezes between proving its lease and writing can still let out.
WRITE_BYTES = 2**14
READ_BYTES = 2**18
# Of an answer; an honest one has a few hundred bytes, and what is longer is read and dropped.
MAX_ANSWER = 2**16


class BrokenError(Exception):
    """The connection cannot be used any more; the message says why."""


class AnswerLine(NamedTuple):
    """One line from the gateway, at most `MAX_ANSWER` bytes of it."""

    data: bytes
    is_cut: bool


class Connection:
    """Connected to ``path`` from the start, or `OSError` or `BrokenError`. ``until`` is in monotonic seconds."""

    def __init__(self, path: Path, until: float) -> None:
        users = _trusted_users(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._unfinished = bytearray()
        self._is_cut = False
        try:
            self._socket.settimeout(max(0.001, min(CONNECT_SECONDS, until - time.monotonic())))
            self._socket.connect(str(path))
            _refuse_stranger(self._socket, users)
        except (OSError, BrokenError):
            self._socket.close()
            raise
        self._socket.setblocking(False)

    def close(self) -> None:
        self._socket.close()

    def wait(self, *, to_write: bool, until: float, missing: str) -> tuple[bool, bool]:
        """Whether it can be read, and written. Raises `BrokenError` (``missing``) at ``until``, whatever drips in."""
        left = until - time.monotonic()
        readable, writable, _ = select.select([self._socket], [self._socket] if to_write else [], [], max(0.0, left))
        if left <= 0 or not (readable or writable):
            raise BrokenError(missing)
        return bool(readable), bool(writable)

    def write(self, outgoing: bytearray) -> bool:
        """Sends what the gateway takes now of ``outgoing``, at most 16 KiB; False where it takes no more."""
        try:
            del outgoing[: self._socket.send(memoryview(outgoing)[:WRITE_BYTES].tobytes())]
        except BlockingIOError:
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def read(self) -> list[AnswerLine]:
        """The lines that have become whole with what arrived now. Call it when it can be read."""
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise BrokenError("the gateway closed the connection before it had answered")
        *whole, rest = data.split(b"\n")
        lines = []
        for part in whole:
            self._add(part)
            lines.append(AnswerLine(bytes(self._unfinished), self._is_cut))
            self._unfinished.clear()
            self._is_cut = False
        self._add(rest)
        return lines

    def _add(self, part: bytes) -> None:
        room = MAX_ANSWER - len(self._unfinished)
        self._is_cut |= len(part) > room
        self._unfinished += part[:room]


def _trusted_users(path: Path) -> frozenset[int]:
    """Who may serve the socket; `BrokenError` where somebody else could put another in its place, and take hashes."""
    try:
        return trusted_at(way_to(path))
    except UntrustedPlaceError as error:
        raise BrokenError(str(error)) from None


def _refuse_stranger(connection: socket.socket, users: frozenset[int]) -> None:
    if not hasattr(socket, "SO_PEERCRED"):
        return
    uid = peer_uid(connection)
    if uid not in users:
        raise BrokenError(f"the server there runs as user {uid}, who is not trusted; {NAME_IT}")
