"""Messages whose rows cannot be written: delivered but never settled, they would come again and again.

A relay leaves them alone until it ends, and goes on with the others.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from outbox import Message
from outbox.settle import Settled
from outbox.statements import Apart

# With more than these it is the table that cannot be written, and delivering would be in vain.
MOST = 1_000
# A database restored from a copy brings a message back once.
COMES_BACK_AT_MOST = 1

log = structlog.get_logger()


@dataclass(slots=True)
class SetApart:
    """What one relay could not settle. In memory only: another relay, or this one started again, tries once more."""

    seqs: set[int] = field(default_factory=set)
    last_reason: str = ""
    _settled: dict[int, Message] = field(default_factory=dict)
    """The last batch, as it was before it was settled."""
    _came_back: Counter[int] = field(default_factory=Counter)

    @property
    def is_full(self) -> bool:
        return len(self.seqs) >= MOST

    def left(self) -> list[Apart]:
        """What must not be read."""
        return [Apart(tuple(sorted(self.seqs)))] if self.seqs else []

    def add(self, message: Message, reason: str) -> None:
        if message.seq not in self.seqs:
            self.seqs.add(message.seq)
            self.last_reason = reason
            log.error(
                "message_cannot_be_settled",
                seq=message.seq,
                invite=message.key,
                reason=reason,
                effect="this relay leaves it alone",
                advice="look at its row, and at the triggers and constraints of outbox_messages",
            )

    def without_unsettled(self, read: Sequence[Message]) -> list[Message]:
        """What is to be delivered of ``read``: not what was settled a moment ago and comes unchanged once too often."""
        again = [one.seq for one in read if one.seq in self._settled and one == self._settled[one.seq]]
        self._came_back = Counter({seq: self._came_back[seq] + 1 for seq in again})
        for seq, times in self._came_back.items():
            if times > COMES_BACK_AT_MOST:
                self.add(self._settled[seq], "it was settled, and is as it was before")
        return [one for one in read if one.seq not in self.seqs] if self.seqs else list(read)

    def note(self, settled: Iterable[Settled]) -> None:
        """Remembers what was just settled; none of it may come again as it was."""
        self._settled = {one.message.seq: one.message for one in settled if one.state is not None}
