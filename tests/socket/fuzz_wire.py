"""Coverage-guided fuzzing of what a client may send: whatever the bytes, each line gets at most one line of JSON.

By hand, for an hour, keeping what it finds in a folder::

    python -m tests.socket.fuzz_wire build/fuzz tests/socket/wire -max_total_time=3600

`test_fuzz.py` runs it for a bounded number of inputs. A script of its own, since atheris instruments what is imported.
"""

import json
import socket
import sys

import atheris

with atheris.instrument_imports(include=["gateway_store", "json"]):
    from gateway_store.connection import Connection
    from gateway_store.wire import SPACES, Probe, Request, error_reply, probe_reply, read_request, result_reply

SHAPES = ({"id", "result"}, {"id", "error"}, {"id", "error", "statusCode", "errorCode"})


def one_input(data: bytes) -> None:
    """The first byte says into how large packets the rest is cut."""
    size = max(1, data[0] if data else 1)
    stream = data[1:] + b"\n"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        connection = Connection(ours)
        lines = []
        for at in range(0, len(stream), size):
            theirs.sendall(stream[at : at + size])
            connection.read(0.0)
            while connection.lines:
                lines.append(connection.next_line())
    if lines != stream.split(b"\n")[:-1] or connection.held or connection.broken:
        raise AssertionError(f"{stream!r} was taken apart as {lines!r}")
    for line in lines:
        check(line)


def check(line: bytes) -> None:
    found = read_request(line)
    if found is None:
        if line.decode().strip(SPACES):
            raise AssertionError(f"no answer to {line!r}")
        return
    replies = [found] if isinstance(found, bytes) else both_answers(found)
    for reply in replies:
        read = json.loads(reply)
        if reply.count(b"\n") != 1 or not reply.endswith(b"\n") or set(read) not in SHAPES:
            raise AssertionError(f"{line!r} is answered with {reply!r}")


def both_answers(request: Request | Probe) -> list[bytes]:
    if isinstance(request, Probe):
        return [probe_reply(request.id, {"schemaVersion": 1})]
    request.invite.invite()
    return [result_reply(request.id, request.invite.id), error_reply(request.id, "SQLiteError: database is locked")]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
