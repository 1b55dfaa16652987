"""Messages on which an exchange with the gateway went wrong: sent alone from then on, until one is answered."""

from collections.abc import Sequence

from outbox import Message

MOST = 1_000
# How often the gateway may be gone after a message before the message is taken to be why.
FELL_OVER_BEFORE_BLAMED = 3


class Doubts:
    """By ``seq``: how often the gateway was gone after this message was sent alone. In memory of one relay only."""

    def __init__(self) -> None:
        self._fell_over: dict[int, int] = {}
        self._begun_at: dict[int, int] = {}
        self._delivered = 0

    def parted(self, messages: Sequence[Message]) -> tuple[list[Message], list[Message]]:
        """Those to be sent together, and the doubtful ones."""
        sound = [one for one in messages if one.seq not in self._fell_over]
        return sound, [one for one in messages if one.seq in self._fell_over]

    def begin(self, seq: int) -> None:
        self._fell_over.setdefault(seq, 0)
        self._begun_at.setdefault(seq, self._delivered)
        while len(self._fell_over) > MOST:
            self._forget(next(iter(self._fell_over)))

    def end(self, message: Message) -> None:
        self._forget(message.seq)

    def note_delivered(self, count: int) -> None:
        self._delivered += count

    def others_delivered(self, message: Message) -> bool:
        """Whether the gateway took other messages since this one was first doubted."""
        return self._delivered > self._begun_at.get(message.seq, self._delivered)

    def _forget(self, seq: int) -> None:
        self._fell_over.pop(seq, None)
        self._begun_at.pop(seq, None)

    def fell_over(self, message: Message) -> int | None:
        """Counts that the gateway was gone after this message; how often, once that is too often for chance."""
        times = self._fell_over.get(message.seq, 0) + 1
        self._fell_over[message.seq] = times
        return times if times >= FELL_OVER_BEFORE_BLAMED else None
