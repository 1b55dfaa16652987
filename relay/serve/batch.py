"""Which lines are answered together: a bounded batch of all that wait, and of each client no more than its share."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from relay.serve.connection import Connection

MAX_BATCH = 500
# Of one connection in a turn, so that one with a backlog of requests does not hold up the others.
MAX_LINES_A_TURN = 128
# Read, many short lines can take thirty times their bytes; a long one cannot, see `has_too_many_values`.
MAX_BATCH_BYTES = 2**20


@dataclass(slots=True)
class Waiting:
    """The connections that have whole lines, in the order of their turns."""

    _connections: deque[Connection] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: Connection) -> None:
        self._connections.append(connection)

    def batch(self, asking: list[Connection]) -> Iterator[bytes]:
        """Takes the lines of one batch; adds to ``asking``, for each of them, whose it is."""
        taken = taken_bytes = 0
        while self._connections and taken < MAX_BATCH and taken_bytes < MAX_BATCH_BYTES:
            connection = self._connections.popleft()
            for _ in range(min(MAX_LINES_A_TURN, len(connection.lines))):
                line = connection.next_line()
                taken += 1
                taken_bytes += len(line)
                asking.append(connection)
                yield line
            if connection.lines:
                self._connections.append(connection)
