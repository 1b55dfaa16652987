"""One exchange with a gateway's socket: what is still to be sent, what is on its way, and what came back."""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from outbox import Outcome, Verdict
from outbox.fence import Prove
from relay.destinations.port import Delivery
from relay.destinations.socket_connection import AnswerLine
from relay.destinations.socket_protocol import ConfusedAnswerError, Odd, read_answer, verdict_of

# Enough in flight to fill a transaction of the server, little enough to be answered in time by one that commits each
# request by itself.
WINDOW_REQUESTS = 500
# Made ahead of what the gateway has taken.
OUTGOING_BYTES = 2**17

MakeLine = Callable[[Delivery], tuple[str, bytes] | Verdict]
"""A request and its id, or the verdict on a message that cannot be sent."""


@dataclass(slots=True)
class Flight:
    """Of a batch the positions not sent yet, bytes on their way, and by request id the positions whose answers are
    awaited. Lines are made when there is room for them, so that the gateway works on the first while the next are
    made."""

    batch: Sequence[Delivery]
    waiting: deque[int]
    prove: Prove
    until: float
    """In monotonic seconds: when it ends, whatever is still awaited."""
    answer_seconds: float
    """How long each answer may take."""
    outgoing: bytearray = field(default_factory=bytearray)
    awaited: dict[str, int] = field(default_factory=dict)
    verdicts: dict[int, Verdict] = field(default_factory=dict)
    odd: dict[int, Odd] = field(default_factory=dict)
    """What is neither a result nor a refusal that is known here, by position."""
    closing: set[int] = field(default_factory=set)
    """Messages whose answer would close their topic, by position."""
    answered_well: bool = False
    """One of them, at least, was taken, or refused as known here."""
    cut_off: bool = False
    """The gateway takes no more; what it has answered can still be read."""

    @property
    def has_room(self) -> bool:
        return len(self.awaited) < WINDOW_REQUESTS and len(self.outgoing) < OUTGOING_BYTES

    @property
    def first_awaited(self) -> Delivery | None:
        """Gateways answer in order: where the answers end, it was at this one."""
        return self.batch[next(iter(self.awaited.values()))] if self.awaited else None

    def fill(self, line_of: MakeLine) -> None:
        while self.waiting and self.has_room:
            position = self.waiting.popleft()
            made = line_of(self.batch[position])
            if isinstance(made, Verdict):
                self.verdicts[position] = made
            else:
                request_id, line = made
                self.outgoing += line
                self.awaited[request_id] = position

    def send_no_more(self) -> None:
        self.cut_off = True
        self.waiting.clear()
        self.outgoing.clear()

    def take_answers(self, lines: Iterable[AnswerLine]) -> bool:
        """Whether there was any; events that the gateway pushes are none."""
        found = False
        for line in lines:
            answer = read_answer(line.data, line.is_cut)
            if answer is None:
                continue
            position = self.awaited.pop(answer.id, None)
            if position is None:
                raise ConfusedAnswerError(f"an answer to nothing that was asked: {answer.error or 'a wrong id'}")
            found = True
            self._note(position, verdict_of(answer, self.batch[position]))
        return found

    def _note(self, position: int, verdict: Verdict | Odd) -> None:
        if isinstance(verdict, Odd):
            self.odd[position] = verdict
            return
        self.verdicts[position] = verdict
        if verdict.outcome is Outcome.TOPIC_CLOSED:
            self.closing.add(position)
        else:
            self.answered_well = True
