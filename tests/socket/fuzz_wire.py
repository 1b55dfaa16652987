"""Coverage-guided fuzzing of what a client may send: whatever the bytes, each line gets at most one line of JSON.

By hand, for an hour, keeping what it finds in a folder::

    python -m tests.socket.fuzz_wire build/fuzz tests/socket/wire -max_total_time=3600

`test_fuzz.py` runs it for a bounded number of inputs. A script of its own, since atheris instruments what is imported.
"""

import json
import socket
import sys
from collections.abc import Mapping

import atheris

with atheris.instrument_imports(include=["relay.serve", "gateway_store", "json"]):
    from gateway_store.socket.methods import METHODS, Asked, Probe, Refused, error_answer, probe_answer, result_answer
    from relay.serve.connection import Connection
    from relay.serve.wire import SPACES, read_request, reply

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
    found = read_request(line, METHODS)
    if found is None:
        if line.decode().strip(SPACES):
            raise AssertionError(f"no answer to {line!r}")
        return
    lines = (
        [found] if isinstance(found, bytes) else [reply(found.id, answer) for answer in possible_answers(found.asked)]
    )
    for answer in lines:
        read = json.loads(answer)
        if answer.count(b"\n") != 1 or not answer.endswith(b"\n") or set(read) not in SHAPES:
            raise AssertionError(f"{line!r} is answered with {answer!r}")


def possible_answers(asked: Asked) -> list[Mapping[str, object]]:
    if isinstance(asked, Refused):
        return [asked.answer]
    if isinstance(asked, Probe):
        return [probe_answer({"schemaVersion": 1})]
    asked.invite()
    return [result_answer(asked.id), error_answer("SQLiteError: database is locked")]


if __name__ == "__main__":
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
