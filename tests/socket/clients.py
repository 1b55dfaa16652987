"""Talking to a gateway's socket as clients do, byte by byte."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.conftest import CONTACT, Stores
from tests.system.processes import Ended, relay_at

NOBODY = 65534
METHOD = "mirror_invite_create"
BAD_REQUEST = {"statusCode": 400, "errorCode": "BAD_REQUEST"}
NO_SUCH_METHOD = {"statusCode": 404, "errorCode": "UNKNOWN_METHOD"}
NO_SUCH_METHOD_BYTES = b',"statusCode":404,"errorCode":"UNKNOWN_METHOD"}\n'


@contextmanager
def gateway(stores: Stores, **env: str) -> "Iterator[subprocess.Popen[bytes]]":
    """A real `relay gateway` process, from when it listens; ended by SIGTERM."""
    command = [sys.executable, "-m", "cli", "gateway", "--listen", url(stores), "--db", stores.mirror_url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ | {"RELAY_LOG_FORMAT": "json"} | env)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        assert json.loads(line)["event"] == "listening", line + process.stderr.read()
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def start_refused(stores: Stores, listen: str | None = None) -> Ended:
    """The command run to its end, which comes by itself where the server may not start."""
    return relay_at(stores.folder, "gateway", "--listen", listen or url(stores), "--db", stores.mirror_url)


def path(stores: Stores) -> Path:
    return stores.folder / "s" / "g.sock"


def lock_file(stores: Stores) -> Path:
    return path(stores).with_name("g.sock.lock")


def url(stores: Stores) -> str:
    return f"unix://{path(stores)}"


def left_by_a_crash(at: Path) -> None:
    at.parent.mkdir(mode=0o700, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(at))
        listener.listen()


def become(user: int, folder: Path) -> None:
    """Another user in ``folder``, the way to which may be closed to it; for a process that ends so."""
    os.chdir(folder)
    os.setgid(user)
    os.setuid(user)


def connect(stores: Stores) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(60)
    client.connect(str(path(stores)))
    return client


def params(**other: Any) -> dict[str, Any]:
    """An invite as the real gateway was given it."""
    return {
        "id": "inv-1",
        "sourceChannel": "telegram",
        "tokenHash": "9f" * 32,
        "maxUses": 1,
        "useCount": 0,
        "expiresAt": 1_795_999_999_000,
        "status": "active",
        "inviteCodeHash": "8d" * 32,
        "contactId": CONTACT,
        "createdAt": 1_795_400_000_000,
        "updatedAt": 1_795_400_000_000,
    } | other


def line(request_id: object = "1", method: object = METHOD, given: object = None) -> bytes:
    request = {"id": request_id, "method": method, "params": params() if given is None else given}
    return json.dumps(request).encode() + b"\n"


def answers(client: socket.socket, count: int) -> list[dict[str, Any]]:
    """The next ``count`` answers, in order."""
    received = b""
    while received.count(b"\n") < count:
        data = client.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    assert received.count(b"\n") == count
    return [json.loads(one) for one in received.split(b"\n")[:-1]]


def send_all_that_is_taken(client: socket.socket, data: bytes) -> bool:
    """False where the server ended the connection first."""
    with suppress(BrokenPipeError, ConnectionResetError):
        client.sendall(data)
        return True
    return False


def ask(stores: Stores, data: bytes, count: int = 1) -> list[dict[str, Any]]:
    with connect(stores) as client:
        client.sendall(data)
        return answers(client, count)
