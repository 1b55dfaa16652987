"""How long honest clients of the socket wait beside all the others that it takes, each with half a line sent."""

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from socket import socket

from bench.figure import Findings, latency
from bench.serving import connected, gateway, round_trip
from bench.stage import stage
from relay.serve.limits import Limits

HONEST = 4
ROUNDS = 3
AFTER_SECONDS = 2.0
LIMITS = Limits()


def measure(rounds: int = ROUNDS) -> Findings:
    """p50 and p99 of the honest clients' round trips, alone, until the line's deadline, and from then on."""
    alone: list[float] = []
    before: list[float] = []
    after: list[float] = []
    for number in range(rounds):
        with stage() as at, gateway(at) as path, ExitStack() as stack:
            honest = [stack.enter_context(connected(path)) for _ in range(HONEST)]
            alone += [took for _, took in _ask_for(honest, AFTER_SECONDS, f"alone-{number}")]
            stalled = [stack.enter_context(connected(path)) for _ in range(LIMITS.connections - HONEST)]
            for client in stalled:
                # Answered, so that it is known to have been let in.
                round_trip(client, "stalled")
                client.sendall(b'{"id":"1","method":"mirror_invite_create","params":{"id":"ha')
            late_at = time.perf_counter() + LIMITS.line_seconds
            for started, took in _ask_for(honest, LIMITS.line_seconds + AFTER_SECONDS, f"beside-{number}"):
                (before if started < late_at else after).append(took)
            _must_be_dropped(stalled)
    beside = f"beside {LIMITS.connections - HONEST} stalled lines"
    return Findings(
        [
            latency(f"one request of {HONEST} honest clients", alone),
            latency(f"the same {beside}, until their deadline", before),
            latency(f"the same {beside}, from their deadline on", after),
        ]
    )


def _ask_for(clients: list[socket], seconds: float, name: str) -> list[tuple[float, float]]:
    """When each round trip started and how long it took; the clients ask side by side, each one request at a time."""
    until = time.perf_counter() + seconds

    def ask(number: int) -> list[tuple[float, float]]:
        found: list[tuple[float, float]] = []
        while (started := time.perf_counter()) < until:
            found.append((started, round_trip(clients[number], f"{name}-{number}-{len(found)}")))
        return found

    with ThreadPoolExecutor(len(clients)) as pool:
        return [one for found in pool.map(ask, range(len(clients))) for one in found]


def _must_be_dropped(stalled: list[socket]) -> None:
    for client in stalled:
        client.settimeout(AFTER_SECONDS)
        if client.recv(1):
            raise RuntimeError("half a line was answered")
