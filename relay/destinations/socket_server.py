"""The server behind a socket as one relay knows it: the connection that is kept, and what it last said of itself."""

import math
import time
from contextlib import suppress
from pathlib import Path

from outbox import Outcome, Verdict
from relay.destinations.port import Delivery, GatewayFacts
from relay.destinations.socket_connection import BrokenError, Connection
from relay.destinations.socket_flight import Flight
from relay.destinations.socket_protocol import (
    Answer,
    ConfusedAnswerError,
    facts_in,
    method_probe_line,
    probe_line,
    read_answer,
    request_line,
)

# How old what a gateway says of itself may get while it is delivered to: another assistant may have taken it over.
FACTS_SECONDS = 1.0
TROUBLE = (BrokenError, ConfusedAnswerError, OSError)
"""What ends an exchange, and with it the connection: `close` it. It says nothing of any one message."""


class Server:
    """Every ``until`` is in monotonic seconds. Whatever raises one of `TROUBLE` leaves the connection unusable."""

    def __init__(self, path: Path, topic: str, answer_seconds: float) -> None:
        self.facts = GatewayFacts()
        self._path = path
        self._topic = topic
        self._answer_seconds = answer_seconds
        self._connection: Connection | None = None
        self._asked_at = -math.inf
        self._admitted: tuple[str, str] | None = None
        self._last_id = 0

    def admit(self, identity: str, assistant: str) -> None:
        """From now on only this gateway of this assistant is delivered to."""
        self._admitted = identity, assistant

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def exchange(self, flight: Flight, seconds: float) -> None:
        """Sends what waits and takes the answers; ``seconds`` is how long all of the delivery may take, in words."""
        if not flight.waiting:
            return
        connection = self._connected(flight.until)
        flight.fill(self._line_of)
        answer_by = time.monotonic() + flight.answer_seconds
        while flight.awaited or flight.outgoing:
            late = flight.until < answer_by
            missing = (
                f"not all answered within {seconds:g} s" if late else f"no answer within {flight.answer_seconds:g} s"
            )
            # Reads while it sends: two sides that only send to each other would wait for ever.
            readable, writable = connection.wait(
                to_write=bool(flight.outgoing), until=min(flight.until, answer_by), missing=missing
            )
            if writable:
                # After every wait and before every write: what has left cannot be called back.
                flight.prove()
                if not connection.write(flight.outgoing):
                    flight.send_no_more()
            if readable and flight.take_answers(connection.read()):
                answer_by = time.monotonic() + flight.answer_seconds
            flight.fill(self._line_of)
        if flight.cut_off:
            raise BrokenError("the gateway closed the connection before it had taken all")

    @property
    def is_fresh(self) -> bool:
        """Whether what the gateway said of itself, if it says anything, was said a moment ago."""
        return not self.facts.identity or time.monotonic() < self._asked_at + FACTS_SECONDS

    def probe(self, until: float) -> None:
        """The right gateway says what it is, or that it knows no such question."""
        self.learn(probe_line(), self._soon(until))
        self.refuse_another()

    def probe_of_method(self, until: float) -> Answer | None:
        """None where it has no answer, or no sound one."""
        try:
            return self.ask(method_probe_line(), self._soon(until))
        except TROUBLE:
            self.close()
            return None

    def count_again(self, until: float) -> None:
        """How many batches it has applied."""
        if self._connection is None:
            return
        with suppress(*TROUBLE):
            self.probe(until)
            return
        self.close()

    def learn(self, line: bytes, until: float) -> GatewayFacts:
        self.facts = facts_in(self.ask(line, until))
        self._asked_at = time.monotonic()
        return self.facts

    def ask(self, line: bytes, until: float) -> Answer:
        """One request by itself, on a connection on which nothing is awaited."""
        if self._connection is None:
            self._connection = Connection(self._path, until)
        outgoing, missing = bytearray(line), f"no answer within {self._answer_seconds:g} s"
        while True:
            readable, writable = self._connection.wait(to_write=bool(outgoing), until=until, missing=missing)
            if writable and not self._connection.write(outgoing):
                raise BrokenError("the gateway closed the connection")
            for received in self._connection.read() if readable else ():
                answer = read_answer(received.data, received.is_cut)
                if answer is not None:
                    return answer

    def refuse_another(self) -> None:
        """Another server may have come to the path since the relay was told where to drain, or the relay of another
        assistant to the server."""
        if self._admitted not in (None, (str(self.facts.identity), self.facts.drained_from)):
            raise BrokenError(f"another gateway is in its place by now: {self.facts.identity or 'it has no identity'}")

    def unreachable(self, error: Exception) -> Verdict:
        return Verdict(Outcome.UNREACHABLE, f"{self._path}: {error}")

    def _connected(self, until: float) -> Connection:
        if self._connection is None:
            self._connection = Connection(self._path, until)
        elif self.is_fresh:
            return self._connection
        self.probe(until)
        return self._connection

    def _soon(self, until: float) -> float:
        return min(until, time.monotonic() + self._answer_seconds)

    def _line_of(self, message: Delivery) -> tuple[str, bytes] | Verdict:
        if message.topic != self._topic:
            reason = f"unknown topic {message.topic!r}; the socket cannot carry it"
            return Verdict(Outcome.REFUSED_FOR_GOOD, reason)
        self._last_id += 1
        request_id = str(self._last_id)
        line = request_line(message, request_id, self.facts.reads)
        return line if isinstance(line, Verdict) else (request_id, line)
