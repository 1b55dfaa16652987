"""The gateway behind a Unix socket: one kept connection, requests in flight within a window, answers matched by id."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import structlog

from outbox import Outcome, Verdict
from outbox.counted import counted
from outbox.fence import LeaseLostError, Prove
from relay.destinations.answered import Answered
from relay.destinations.doubts import Doubts
from relay.destinations.kind import Kind
from relay.destinations.port import Delivery, GatewayFacts, GatewayReadOnlyError, GatewayUnreachableError, Handle
from relay.destinations.socket_connection import CONNECT_SECONDS, BrokenError
from relay.destinations.socket_flight import Flight
from relay.destinations.socket_judging import judge_closing, judge_odd
from relay.destinations.socket_protocol import (
    READ_ONLY,
    claim_line,
    is_answered_well,
    method_missing,
    method_probe_line,
    probe_line,
)
from relay.destinations.socket_server import TROUBLE, Server
from relay.destinations.socket_url import check_socket, means_a_socket, socket_path
from relay.topics import INVITES

ANSWER_SECONDS = 5.0
# Of all a batch: a gateway that answers, but slowly, must not keep a relay from stopping.
DELIVERY_SECONDS = 15.0

log = structlog.get_logger()


class SocketDestination:
    """A gateway that serves its socket, ours or the real one. A lost answer is an unknown outcome: deliver again."""

    def __init__(self, path: Path, topic: str, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._server = Server(path, topic, answer_seconds)
        self._answer_seconds = answer_seconds
        self._doubts = Doubts()
        self._answered = Answered()

    def send(self, batch: Sequence[Delivery], prove: Prove) -> Handle:
        """All that will be answered is answered on return; within the batch, requests are in flight together."""
        return self._answered.keep(self._deliver(batch, prove))

    def collect(self, handle: Handle) -> list[Verdict]:
        return self._answered.collect(handle)

    @property
    def batches(self) -> int:
        return self._server.facts.batches

    def probe(self) -> GatewayFacts:
        return self._learned(probe_line())

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        self._server.admit(str(facts.identity), assistant)
        found = self._learned(claim_line(assistant, take_over))
        try:
            self._server.refuse_another()
        except BrokenError as error:
            raise GatewayUnreachableError(str(error)) from error
        return found

    def lacks(self) -> str | None:
        with self._saying_why():
            answer = self._server.ask(method_probe_line(), time.monotonic() + self._answer_seconds)
            missing = method_missing(answer)
            if missing is None and not is_answered_well(answer):
                # So is every message answered then, and a relay takes the gateway to be down.
                raise BrokenError(f"the gateway answered: {answer.error or 'neither a result nor an error'}")
            return missing

    def close(self) -> None:
        self._server.close()

    def _learned(self, line: bytes) -> GatewayFacts:
        with self._saying_why():
            return self._server.learn(line, time.monotonic() + self._answer_seconds)

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        try:
            yield
        except TROUBLE as error:
            self.close()
            kind = GatewayReadOnlyError if READ_ONLY.search(str(error)) else GatewayUnreachableError
            raise kind(str(self._server.unreachable(error).reason)) from error

    def _deliver(self, batch: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        until = time.monotonic() + DELIVERY_SECONDS
        sound, doubtful = self._doubts.parted(batch)
        was_fresh = self._server.is_fresh
        verdicts = self._deliver_together(Flight(batch, deque(sound), prove, until, self._answer_seconds))
        if not (was_fresh and self._server.is_fresh):
            self._server.count_again(until)
        down = next((one for one in verdicts.values() if one.outcome is Outcome.UNREACHABLE), None)
        for position in doubtful:
            verdicts[position] = down or self._deliver_alone(batch[position], prove, until)
        return [verdicts[position] for position in range(len(batch))]

    def _deliver_together(self, flight: Flight) -> dict[int, Verdict]:
        sent = tuple(flight.waiting)
        rest: Verdict | None = None
        try:
            self._server.exchange(flight, DELIVERY_SECONDS)
        except LeaseLostError as error:
            # Half an exchange may lie on the connection, and nothing more of it may leave.
            self.close()
            rest = Verdict(Outcome.LEASE_LOST, str(error))
        except TROUBLE as error:
            self.close()
            rest = self._server.unreachable(error)
            unanswered = len(sent) - len(flight.verdicts) - len(flight.odd)
            log.warning("gateway_connection_broken", reason=rest.reason, unanswered=unanswered)
            if flight.first_awaited is not None and not _is_over(flight.until):
                # A gateway that is slow with all is slow with none.
                self._doubts.begin(flight.first_awaited)
        except BaseException:
            self.close()
            raise
        judge_odd(flight, self._server, self._doubts)
        judge_closing(flight, self._server)
        self._doubts.note_delivered(sum(one.outcome is Outcome.DELIVERED for one in flight.verdicts.values()))
        return flight.verdicts if rest is None else dict.fromkeys(sent, rest) | flight.verdicts

    def _deliver_alone(self, message: Delivery, prove: Prove, until: float) -> Verdict:
        """A message for which the answer did not come, between two probes: which of the two is the trouble?"""
        # As long as any other answer may take; of a delivery so short that this is all of it, a part.
        answer_seconds = min(self._answer_seconds, DELIVERY_SECONDS / 3)
        flight = Flight([message], deque([0]), prove, until, answer_seconds)
        try:
            self._server.probe(until)
            if _is_over(until - answer_seconds):
                no_time = BrokenError("no time was left to wait for the answer to this message alone")
                return self._server.unreachable(no_time)
            self._server.exchange(flight, DELIVERY_SECONDS)
        except LeaseLostError as error:
            self.close()
            return Verdict(Outcome.LEASE_LOST, str(error))
        except TROUBLE as error:
            self.close()
            if not flight.awaited or _is_over(until):
                return self._server.unreachable(error)
            return self._after_no_answer(message, str(error), until)
        if 0 in flight.odd:
            odd = flight.odd[0]
            if (
                odd.is_of_the_store
                and self._server.facts.identity is None
                and not self._doubts.others_delivered(message)
            ):
                # By a gateway whose probe does not try its store, which may be locked for everybody.
                return Verdict(Outcome.UNREACHABLE, f"the gateway answered: {odd.text}")
            return self._after_no_answer(message, odd.text, until)
        judge_closing(flight, self._server)
        if flight.verdicts[0].outcome is not Outcome.UNREACHABLE:
            self._doubts.end(message)
        return flight.verdicts[0]

    def _after_no_answer(self, message: Delivery, said: str, until: float) -> Verdict:
        try:
            self._server.probe(until)
        except TROUBLE as error:
            self.close()
            # That there was no time left for an answer says nothing of the message.
            times = None if _is_over(until) else self._doubts.fell_over(message)
            if times is None:
                return self._server.unreachable(error)
            said = f"{said}; it was gone afterwards, {counted(times, 'time', 'times')}"
        return Verdict(Outcome.REFUSED_FOR_NOW, f"the gateway answers others, and of this message alone: {said}")


def _open(url: str, _patience: float) -> SocketDestination:
    return SocketDestination(socket_path(url, "--gateway"), INVITES.name)


def _answers_within(_url: str, _patience: float) -> float:
    return CONNECT_SECONDS + DELIVERY_SECONDS


KIND = Kind(check_socket, _open, _answers_within, shown=str, shown_whole=str, is_meant=means_a_socket)


def _is_over(until: float) -> bool:
    return time.monotonic() >= until
