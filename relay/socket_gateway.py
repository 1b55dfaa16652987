"""The gateway behind a Unix socket: one kept connection, requests in flight within a window, answers matched by id.

A verdict about one request is no verdict about the gateway. What is odd about one answer among good ones, or where the
gateway is asked again and answers well, concerns that message alone (`relay.doubts`).
"""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from outbox import Message, Outcome, Verdict
from outbox.counted import counted
from outbox.fence import LeaseLostError, Prove
from relay.doubts import Doubts
from relay.gateway import GatewayFacts, GatewayReadOnlyError, GatewayUnreachableError
from relay.socket_connection import BrokenError, Connection
from relay.socket_protocol import (
    READ_ONLY,
    UPGRADE,
    Answer,
    ConfusedAnswerError,
    Odd,
    claim_line,
    closes_topic,
    facts_in,
    is_answered_well,
    method_missing,
    method_probe_line,
    probe_line,
    read_answer,
    request_line,
    verdict_of,
)

ANSWER_SECONDS = 5.0
# Enough in flight to fill a transaction of the server, little enough to be answered in time by one that commits each
# request by itself.
WINDOW_REQUESTS = 500
# Made ahead of what the gateway has taken.
OUTGOING_BYTES = 2**17
# How old what a gateway says of itself may get while it is delivered to: another assistant may have taken it over.
FACTS_SECONDS = 1.0
# Of all a batch: a gateway that answers, but slowly, must not keep a relay from stopping.
DELIVERY_SECONDS = 15.0

log = structlog.get_logger()


@dataclass(slots=True)
class _Flight:
    """One exchange: messages not sent yet, bytes on their way, and the messages whose answers are awaited, by request
    id. Lines are made when there is room for them, so that the gateway works on the first while the next are made."""

    waiting: deque[Message]
    outgoing: bytearray = field(default_factory=bytearray)
    awaited: dict[str, Message] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    odd: dict[int, Odd] = field(default_factory=dict)
    """What is neither a result nor a refusal that is known here, by ``seq``."""
    closing: set[int] = field(default_factory=set)
    """Messages whose answer would close their topic, by ``seq``."""
    answered_well: bool = False
    """One of them, at least, was taken, or refused as known here."""
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
        self._connection: Connection | None = None
        self._facts = GatewayFacts()
        self._asked_at = -math.inf
        self._admitted: tuple[str, str] | None = None
        self._last_id = 0
        self._doubts = Doubts()

    def deliver(self, messages: Sequence[Message], prove: Prove) -> list[Verdict]:
        until = time.monotonic() + DELIVERY_SECONDS
        sound, doubtful = self._doubts.parted(messages)
        was_fresh = self._is_fresh
        verdicts = self._deliver_together(sound, prove, until)
        if not (was_fresh and self._is_fresh):
            self._count_again(until)
        down = next((one for one in verdicts.values() if one.outcome is Outcome.UNREACHABLE), None)
        for message in doubtful:
            verdicts[message.seq] = down or self._deliver_alone(message, prove, until)
        return [verdicts[message.seq] for message in messages]

    @property
    def batches(self) -> int:
        return self._facts.batches

    def probe(self) -> GatewayFacts:
        return self._asked(probe_line())

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        self._admitted = (str(facts.identity), assistant)
        found = self._asked(claim_line(assistant, take_over))
        try:
            self._refuse_another()
        except BrokenError as error:
            raise GatewayUnreachableError(str(error)) from error
        return found

    def lacks(self) -> str | None:
        with self._saying_why():
            answer = self._ask(method_probe_line(), time.monotonic() + self._answer_seconds)
            missing = method_missing(answer)
            if missing is None and not is_answered_well(answer):
                # So is every message answered then, and a relay takes the gateway to be down.
                raise BrokenError(f"the gateway answered: {answer.error or 'neither a result nor an error'}")
            return missing

    def _asked(self, line: bytes) -> GatewayFacts:
        with self._saying_why():
            return self._learn(line, time.monotonic() + self._answer_seconds)

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        try:
            yield
        except (BrokenError, ConfusedAnswerError, OSError) as error:
            self.close()
            kind = GatewayReadOnlyError if READ_ONLY.search(str(error)) else GatewayUnreachableError
            raise kind(str(self._unreachable(error).reason)) from error

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _deliver_together(self, messages: Sequence[Message], prove: Prove, until: float) -> dict[int, Verdict]:
        flight = _Flight(deque(messages))
        rest: Verdict | None = None
        try:
            self._exchange(flight, prove, until, self._answer_seconds)
        except LeaseLostError as error:
            # Half an exchange may lie on the connection, and nothing more of it may leave.
            self.close()
            rest = Verdict(Outcome.LEASE_LOST, str(error))
        except (BrokenError, ConfusedAnswerError, OSError) as error:
            self.close()
            rest = self._unreachable(error)
            unanswered = len(messages) - len(flight.verdicts) - len(flight.odd)
            log.warning("gateway_connection_broken", reason=rest.reason, unanswered=unanswered)
            if flight.awaited and not _is_over(until):
                # Gateways answer in order, so it was at this one. A gateway that is slow with all is slow with none.
                self._doubts.begin(next(iter(flight.awaited.values())).seq)
        except BaseException:
            self.close()
            raise
        self._judge_odd(flight, until)
        self._judge_closing(flight, until)
        self._doubts.note_delivered(sum(one.outcome is Outcome.DELIVERED for one in flight.verdicts.values()))
        return flight.verdicts | {
            one.seq: rest for one in messages if rest is not None and one.seq not in flight.verdicts
        }

    def _deliver_alone(self, message: Message, prove: Prove, until: float) -> Verdict:
        """A message for which the answer did not come, between two probes: which of the two is the trouble?"""
        flight = _Flight(deque([message]))
        # As long as any other answer may take; of a delivery so short that this is all of it, a part.
        answer_seconds = min(self._answer_seconds, DELIVERY_SECONDS / 3)
        try:
            self._probe(min(until, time.monotonic() + self._answer_seconds))
            if _is_over(until - answer_seconds):
                return self._unreachable(BrokenError("no time was left to wait for the answer to this message alone"))
            self._exchange(flight, prove, until, answer_seconds)
        except LeaseLostError as error:
            self.close()
            return Verdict(Outcome.LEASE_LOST, str(error))
        except (BrokenError, ConfusedAnswerError, OSError) as error:
            self.close()
            if not flight.awaited or _is_over(until):
                return self._unreachable(error)
            return self._after_no_answer(message, str(error), until)
        if message.seq in flight.odd:
            odd = flight.odd[message.seq]
            if odd.is_of_the_store and self._facts.identity is None and not self._doubts.others_delivered(message):
                # By a gateway whose probe does not try its store, which may be locked for everybody.
                return Verdict(Outcome.UNREACHABLE, f"the gateway answered: {odd.text}")
            return self._after_no_answer(message, odd.text, until)
        self._judge_closing(flight, until)
        if flight.verdicts[message.seq].outcome is not Outcome.UNREACHABLE:
            self._doubts.end(message)
        return flight.verdicts[message.seq]

    def _after_no_answer(self, message: Message, said: str, until: float) -> Verdict:
        try:
            self._probe(min(until, time.monotonic() + self._answer_seconds))
        except (BrokenError, ConfusedAnswerError, OSError) as error:
            self.close()
            # That there was no time left for an answer says nothing of the message.
            times = None if _is_over(until) else self._doubts.fell_over(message)
            if times is None:
                return self._unreachable(error)
            said = f"{said}; it was gone afterwards, {counted(times, 'time', 'times')}"
        return Verdict(Outcome.REFUSED_FOR_NOW, f"the gateway answers others, and of this message alone: {said}")

    def _judge_odd(self, flight: _Flight, until: float) -> None:
        """An odd answer is about its message where the gateway answered another one well, or a probe of the method."""
        answered_well = flight.answered_well
        of_the_store = [seq for seq, odd in flight.odd.items() if odd.is_of_the_store]
        if answered_well or len(flight.odd) == 1:
            # Either the store was locked for a while, or a row always makes it say so: each is tried alone.
            for seq in of_the_store:
                self._doubts.begin(seq)
        if len(flight.odd) > len(of_the_store):
            answered_well = answered_well or self._method_answers(until)
        for seq, odd in flight.odd.items():
            is_outage = odd.is_of_the_store or not answered_well
            outcome = Outcome.UNREACHABLE if is_outage else Outcome.REFUSED_FOR_NOW
            flight.verdicts[seq] = Verdict(outcome, f"the gateway answered: {odd.text}")

    def _judge_closing(self, flight: _Flight, until: float) -> None:
        """An answer that would close the topic does so where a probe of the method is answered like that as well.

        It is about its message alone where the gateway answered another one well, or the probe; and where that has no
        answer, or an odd one, the gateway is in trouble and nothing is known of the method.
        """
        if not flight.closing:
            return
        probed = None if flight.answered_well else self._probe_of_method(until)
        if flight.answered_well or (probed is not None and is_answered_well(probed)):
            outcome, words = Outcome.REFUSED_FOR_NOW, "the gateway answers others, and of this message alone"
        elif probed is None or not closes_topic(probed):
            outcome, words = Outcome.UNREACHABLE, "the gateway says nothing else of the method, and of this message"
        else:
            return
        for seq in flight.closing:
            said = (flight.verdicts[seq].reason or "").removesuffix(UPGRADE)
            flight.verdicts[seq] = Verdict(outcome, f"{words}: {said}")

    def _method_answers(self, until: float) -> bool:
        probed = self._probe_of_method(until)
        return probed is not None and is_answered_well(probed)

    def _probe_of_method(self, until: float) -> Answer | None:
        try:
            return self._ask(method_probe_line(), min(until, time.monotonic() + self._answer_seconds))
        except (BrokenError, ConfusedAnswerError, OSError):
            self.close()
            return None

    def _fill(self, flight: _Flight) -> None:
        while flight.waiting and flight.has_room:
            message = flight.waiting.popleft()
            if message.topic != self._topic:
                reason = f"unknown topic {message.topic!r}; the socket cannot carry it"
                flight.verdicts[message.seq] = Verdict(Outcome.REFUSED_FOR_GOOD, reason)
                continue
            self._last_id += 1
            line = request_line(message, str(self._last_id), self._facts.reads)
            if isinstance(line, Verdict):
                flight.verdicts[message.seq] = line
            else:
                flight.outgoing += line
                flight.awaited[str(self._last_id)] = message

    def _exchange(self, flight: _Flight, prove: Prove, until: float, answer_seconds: float) -> None:
        if not flight.waiting:
            return
        connection = self._connected(until)
        self._fill(flight)
        answer_by = time.monotonic() + answer_seconds
        while flight.awaited or flight.outgoing:
            late = until < answer_by
            missing = (
                f"not all answered within {DELIVERY_SECONDS:g} s" if late else f"no answer within {answer_seconds:g} s"
            )
            # Reads while it sends: two sides that only send to each other would wait for ever.
            readable, writable = connection.wait(
                to_write=bool(flight.outgoing), until=min(until, answer_by), missing=missing
            )
            if writable:
                # After every wait and before every write: what has left cannot be called back.
                prove()
                if not connection.write(flight.outgoing):
                    flight.cut_off = True
                    flight.waiting.clear()
                    flight.outgoing.clear()
            if readable and self._take_answers(connection, flight):
                answer_by = time.monotonic() + answer_seconds
            self._fill(flight)
        if flight.cut_off:
            raise BrokenError("the gateway closed the connection before it had taken all")

    def _take_answers(self, connection: Connection, flight: _Flight) -> bool:
        """Whether there was any; events that the gateway pushes are none."""
        found = False
        for line in connection.read():
            answer = read_answer(line.data, line.is_cut)
            if answer is None:
                continue
            message = flight.awaited.pop(answer.id, None)
            if message is None:
                raise ConfusedAnswerError(f"an answer to nothing that was asked: {answer.error or 'a wrong id'}")
            found = True
            verdict = verdict_of(answer, message)
            if isinstance(verdict, Odd):
                flight.odd[message.seq] = verdict
            else:
                flight.verdicts[message.seq] = verdict
                if verdict.outcome is Outcome.TOPIC_CLOSED:
                    flight.closing.add(message.seq)
                else:
                    flight.answered_well = True
        return found

    def _connected(self, until: float) -> Connection:
        if self._connection is None:
            self._connection = Connection(self._path, until)
        elif self._is_fresh:
            return self._connection
        self._probe(min(until, time.monotonic() + self._answer_seconds))
        return self._connection

    def _refuse_another(self) -> None:
        """Another server may have come to the path since the relay was told where to drain, or the relay of another
        assistant to the server."""
        if self._admitted not in (None, (str(self._facts.identity), self._facts.drained_from)):
            raise BrokenError(f"another gateway is in its place by now: {self._facts.identity or 'it has no identity'}")

    def _probe(self, until: float) -> None:
        """The right gateway says what it is, or that it knows no such question."""
        self._learn(probe_line(), until)
        self._refuse_another()

    def _learn(self, line: bytes, until: float) -> GatewayFacts:
        self._facts = facts_in(self._ask(line, until))
        self._asked_at = time.monotonic()
        return self._facts

    @property
    def _is_fresh(self) -> bool:
        """Whether what the gateway said of itself, if it says anything, was said a moment ago."""
        return not self._facts.identity or time.monotonic() < self._asked_at + FACTS_SECONDS

    def _count_again(self, until: float) -> None:
        """How many batches it has applied."""
        if self._connection is None:
            return
        with suppress(BrokenError, ConfusedAnswerError, OSError):
            self._probe(min(until, time.monotonic() + self._answer_seconds))
            return
        self.close()

    def _ask(self, line: bytes, until: float) -> Answer:
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

    def _unreachable(self, error: Exception) -> Verdict:
        return Verdict(Outcome.UNREACHABLE, f"{self._path}: {error}")


def _is_over(until: float) -> bool:
    return time.monotonic() >= until
