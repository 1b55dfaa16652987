"""Messages on which an exchange with the gateway went wrong: sent alone from then on, until one is answered."""

from collections.abc import Sequence

from relay.destinations.port import Delivery

MOST = 1_000
# How often the gateway may be gone after a message before the message is taken to be why.
FELL_OVER_BEFORE_BLAMED = 3


# Not the payload, which may be large.
_Name = tuple[str, str, int]


def _name(message: Delivery) -> _Name:
    return message.topic, message.key, message.version


class Doubts:
    """By message: how often the gateway was gone after it was sent alone. In the memory of one relay only."""

    def __init__(self) -> None:
        self._fell_over: dict[_Name, int] = {}
        self._begun_at: dict[_Name, int] = {}
        self._delivered = 0

    def parted(self, batch: Sequence[Delivery]) -> tuple[list[int], list[int]]:
        """The positions of those to be sent together, and of the doubtful ones."""
        doubtful = [position for position, one in enumerate(batch) if _name(one) in self._fell_over]
        return sorted(set(range(len(batch))) - set(doubtful)), doubtful

    def begin(self, message: Delivery) -> None:
        name = _name(message)
        self._fell_over.setdefault(name, 0)
        self._begun_at.setdefault(name, self._delivered)
        while len(self._fell_over) > MOST:
            self._forget(next(iter(self._fell_over)))

    def end(self, message: Delivery) -> None:
        self._forget(_name(message))

    def note_delivered(self, count: int) -> None:
        self._delivered += count

    def others_delivered(self, message: Delivery) -> bool:
        """Whether the gateway took other messages since this one was first doubted."""
        return self._delivered > self._begun_at.get(_name(message), self._delivered)

    def _forget(self, name: _Name) -> None:
        self._fell_over.pop(name, None)
        self._begun_at.pop(name, None)

    def fell_over(self, message: Delivery) -> int | None:
        """Counts that the gateway was gone after this message; how often, once that is too often for chance."""
        times = self._fell_over.get(_name(message), 0) + 1
        self._fell_over[_name(message)] = times
        return times if times >= FELL_OVER_BEFORE_BLAMED else None
