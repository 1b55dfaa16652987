"""A gateway whose every answer the test writes: a real socket, one connection after the other, in a thread."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.socket.accepting import accepting

Answer = Callable[[dict[str, Any]], bytes | None]
"""The bytes to send for a request; None closes the connection instead."""


PROBE = "relay_probe"


class Scripted:
    """What arrived but for probes, and how to answer it; a packet is decoded by itself, as the real gateway does."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.probe_answer: Answer = error("Unknown method: relay_probe")
        self.probes = 0
        self.requests: list[dict[str, Any]] = []
        self.connections = 0
        self.most_unanswered = 0

    def talk(self, client: socket.socket) -> None:
        self.connections += 1
        text = ""
        while data := client.recv(65536):
            text += data.decode()
            *whole, text = text.split("\n")
            self.most_unanswered = max(self.most_unanswered, len(whole))
            for line in whole:
                request = json.loads(line)
                if request["method"] == PROBE:
                    self.probes += 1
                    answer = self.probe_answer(request)
                else:
                    self.requests.append(request)
                    answer = self.answer(request)
                if answer is None:
                    return
                client.sendall(answer)


@contextmanager
def scripted(path: Path, answer: Answer) -> Iterator[Scripted]:
    server = Scripted(answer)
    with accepting(path, server.talk):
        yield server


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def result(request: dict[str, Any]) -> bytes:
    return line({"id": request["id"], "result": {"id": (request.get("params") or {}).get("id")}})


def error(text: str) -> Answer:
    return lambda request: line({"id": request["id"], "error": text})
