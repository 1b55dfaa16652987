"""The gateway's socket: how fast a relay drains through it, and how long one request takes, beside a bare commit."""

import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.contest import ROUNDS
from bench.draining import drain_alone
from bench.figure import Figure, Findings, latency
from bench.heap import fill, must_be_drained
from bench.stage import CONTACT, Stage, bare_commit, event_of, stage

MESSAGES = 20_000
REQUESTS = 500


def measure(rounds: int = ROUNDS, requests: int = REQUESTS) -> Findings:
    """Median rate over the rounds; p50 and p99 of single requests, each durable before it is answered."""
    rates, kept, fresh, commits = [], [], [], []
    for _ in range(rounds):
        with stage() as at, gateway(at) as path:
            fill(at, MESSAGES)
            rates.append(drain_alone(at, f"unix://{path}", MESSAGES).rate)
            must_be_drained(at, MESSAGES)
            with connected(path) as client:
                for number in range(requests):
                    kept.append(round_trip(client, f"kept-{number}"))
                    commits.append(bare_commit(at))
                    started = time.perf_counter()
                    with connected(path) as another:
                        round_trip(another, f"fresh-{number}")
                    fresh.append(time.perf_counter() - started)
    return Findings(
        [
            Figure("drain through the socket", statistics.median(rates), "invites/s", at_least=10_000),
            latency("one request, kept connection", kept),
            latency("one request, fresh connection", fresh),
            latency("one bare commit beside them", commits),
        ]
    )


@contextmanager
def gateway(at: Stage) -> Iterator[Path]:
    path = at.folder / "socket" / "gateway.sock"
    command = [sys.executable, "-P", "-m", "cli", "gateway", "--listen", f"unix://{path}", "--db", at.settings.gateway]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=at.environment)
    try:
        if process.stderr is None or event_of(process.stderr.readline()) != "listening":
            raise RuntimeError("the gateway does not listen")
        yield path
    finally:
        process.terminate()
        process.communicate(timeout=30)


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.connect(str(path))
        yield client


def round_trip(client: socket.socket, invite_id: str) -> float:
    params = {
        "id": invite_id,
        "sourceChannel": "telegram",
        "tokenHash": "0" * 64,
        "maxUses": 1,
        "useCount": 0,
        "expiresAt": 1,
        "status": "active",
        "contactId": CONTACT,
        "createdAt": 1,
        "updatedAt": 1,
    }
    line = json.dumps({"id": "1", "method": "mirror_invite_create", "params": params}).encode() + b"\n"
    started = time.perf_counter()
    client.sendall(line)
    answer = client.recv(4096)
    took = time.perf_counter() - started
    if b'"result"' not in answer:
        raise RuntimeError(f"refused: {answer!r}")
    return took
