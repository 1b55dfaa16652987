"""The frames of PostgreSQL's protocol, version 3, as whoever stands between a client and a server sees them."""

import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import URL, make_url

VERSION_3 = 196608
SSL_REQUEST, GSS_REQUEST = 80877103, 80877104


class Frame(NamedTuple):
    kind: bytes
    """One letter."""
    body: bytes

    def encoded(self) -> bytes:
        return self.kind + struct.pack("!I", len(self.body) + 4) + self.body


class Peer:
    """One end of a connection, read frame by frame."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._read = b""

    def fileno(self) -> int:
        return self.socket.fileno()

    def send(self, *frames: Frame) -> None:
        self.socket.sendall(b"".join(frame.encoded() for frame in frames))

    def receive(self) -> bool:
        """Waits for more bytes; False where none will come."""
        data = self.socket.recv(65536)
        self._read += data
        return bool(data)

    def frames(self) -> Iterator[Frame]:
        """Those that have arrived whole."""
        while len(self._read) >= 5:
            end = 1 + struct.unpack("!I", self._read[1:5])[0]
            if len(self._read) < end:
                return
            frame, self._read = Frame(self._read[:1], self._read[5:end]), self._read[end:]
            yield frame

    def startup(self) -> dict[str, str]:
        """A client's first words, its wishes for encryption declined; empty for one that wants no session."""
        while True:
            while len(self._read) < 8 or len(self._read) < struct.unpack("!I", self._read[:4])[0]:
                if not self.receive():
                    return {}
            length, version = struct.unpack("!II", self._read[:8])
            body, self._read = self._read[8:length], self._read[length:]
            if version in (SSL_REQUEST, GSS_REQUEST):
                self.socket.sendall(b"N")
                continue
            words = body.decode().split("\0")
            return dict(zip(words[0:-2:2], words[1:-2:2], strict=True)) if version == VERSION_3 else {}


def connect(server: Path, wanted: dict[str, str]) -> tuple[Peer, list[Frame]]:
    """A session on a server that asks for no password, and what it said until it was ready."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(str(server))
    words = "".join(f"{name}\0{value}\0" for name, value in wanted.items()).encode() + b"\0"
    connection.sendall(struct.pack("!II", len(words) + 8, VERSION_3) + words)
    peer, greeting = Peer(connection), list[Frame]()
    while not greeting or greeting[-1].kind != b"Z":
        if not peer.receive():
            connection.close()
            raise ConnectionError(f"no session: {greeting}")
        greeting += peer.frames()
    return peer, greeting


def socket_of(url: str) -> Path:
    """Where the server of a database's URL listens."""
    query = make_url(url).query
    return Path(str(query["host"])) / f".s.PGSQL.{query['port']}"


def through(url: str, port: int) -> str:
    """The same database by way of ``port`` on this host."""
    parsed = make_url(url)
    there = URL.create(parsed.drivername, parsed.username, None, "127.0.0.1", port, parsed.database)
    return there.render_as_string(hide_password=False)
