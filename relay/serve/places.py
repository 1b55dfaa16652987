"""Whom the server keeps a place for: a client that asks comes before those that only keep their connection.

Otherwise whoever has taken all places keeps honest clients out, for as long as he likes. A place is taken with the
first whole line; until then a connection waits in the lobby, where the oldest makes room for the newest. When all
places are taken, the one goes that was idle longest; one whose answer is still owed is never among them.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from relay.serve.connection import Connection

GAVE_WAY = "idle, and another asked for something"
UNFINISHED = "asked nothing whole, while others did"
ALL_BUSY = "connections are open, and none of them idle"


@dataclass(slots=True)
class Places:
    """The connections that have said something; `drop` ends one, for a reason that is counted."""

    number: int
    """Of places, and again as many in the lobby."""
    drop: Callable[[Connection, str], None]
    _lobby: dict[Connection, None] = field(default_factory=dict)
    """In the order in which they came."""
    _seated: dict[Connection, None] = field(default_factory=dict)
    """In the order in which they last said something."""

    def __iter__(self) -> Iterator[Connection]:
        yield from list(self._lobby)
        yield from list(self._seated)

    def __len__(self) -> int:
        return len(self._lobby) + len(self._seated)

    @property
    def are_taken(self) -> bool:
        return len(self._seated) >= self.number

    def keep(self, connection: Connection, stalled_seconds: float) -> bool:
        """Finds room for one that said something; False where nobody could make any, and it was dropped."""
        if connection in self._seated:
            del self._seated[connection]
            self._seated[connection] = None
            return True
        if not connection.lines:
            if connection not in self._lobby and len(self._lobby) >= self.number:
                self.drop(next(iter(self._lobby)), UNFINISHED)
            self._lobby[connection] = None
            return True
        if self.are_taken and not self.make_room(stalled_seconds):
            self.drop(connection, f"{self.number} {ALL_BUSY}")
            return False
        self._lobby.pop(connection, None)
        self._seated[connection] = None
        return True

    def make_room(self, stalled_seconds: float) -> bool:
        """Ends what was idle longest, if there is any; its client will come again when it has something to ask."""
        now = time.monotonic()
        idlest = next((one for one in self._seated if one.is_idle(now, stalled_seconds)), None)
        if idlest is not None:
            self.drop(idlest, GAVE_WAY)
        return idlest is not None

    def forget(self, connection: Connection) -> None:
        self._lobby.pop(connection, None)
        self._seated.pop(connection, None)
