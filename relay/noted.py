"""What a relay notes of itself in `outbox_relays`, and how others read it: its own view of the gateway.

``last_error`` holds two things, because a later error must not hide what still needs a person: first what stands, after
`STANDS`, then the last trouble with the gateway, which may be over.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy.exc import DBAPIError

from outbox import DatabaseMissingError
from outbox.clock import now_ms
from outbox.counted import counted
from outbox.leases import Leases
from outbox.redact import redact_reason
from relay.apart import SetApart
from relay.instants import CLOCKS_DIFFER_BY_MS, clock_in_words

STANDS = "needs a person: "
_THEN = " || "
# The rest of the column's 2,000 characters is for the last error.
_MOST_OF_STANDING = 1_000


@dataclass(slots=True)
class Noted:
    """Written with the next renewal of the leases, and at once where it changes whether the gateway is up, or what
    needs a person: a relay that has just started, or is killed a moment later, has said so."""

    leases: Leases
    _error: str = ""
    _standing: str = ""
    _is_down: bool = False

    def gateway_down(self, reason: str) -> None:
        self._error = redact_reason(reason)
        if self._is_down:
            self._note()
            return
        self._is_down = True
        self.leases.note(down_since=now_ms())
        self._note()
        self._write()

    def gateway_up(self) -> None:
        if self._is_down:
            self._is_down = False
            self.leases.note(down_since=None)
            self._write()

    def answered_others(self) -> None:
        """What it is down for, if it is now, begins again."""
        self._is_down = False

    def delivered(self) -> None:
        self.leases.note(last_delivered_at=now_ms())

    def stands(self, closed: Mapping[str, str], apart: SetApart) -> None:
        """What does not heal by itself, as this relay alone knows it; nothing is written while it stays the same."""
        found = redact_reason("; ".join(_standing(closed, apart, self.leases.clock_ahead_ms)))[:_MOST_OF_STANDING]
        if found != self._standing:
            self._standing = found
            self._note()
            self._write()

    def _note(self) -> None:
        standing = f"{STANDS}{self._standing}{_THEN}" if self._standing else ""
        self.leases.note(last_error=redact_reason(standing + self._error) or None)

    def _write(self) -> None:
        # Otherwise the next renewal writes it.
        with suppress(DBAPIError, DatabaseMissingError):
            self.leases.renew()


def standing_and_last(last_error: str | None) -> tuple[str | None, str | None]:
    """What still needs a person, and the last trouble with the gateway, from a relay's ``last_error``."""
    if last_error is None or not last_error.startswith(STANDS):
        return None, last_error
    standing, _, error = last_error.removeprefix(STANDS).partition(_THEN.rstrip())
    return standing.strip(), error.strip() or None


def _standing(closed: Mapping[str, str], apart: SetApart, clock_ahead_ms: int) -> list[str]:
    found = []
    if apart.seqs:
        found.append(
            f"{counted(len(apart.seqs), 'message is', 'messages are')} set apart, such as {min(apart.seqs)}, which "
            f"the database refuses to settle ({apart.last_reason[:200]}); look at triggers and constraints of "
            "outbox_messages, then restart the relay"
        )
    found += [f"the topic {topic} is closed: {reason}" for topic, reason in closed.items()]
    if abs(clock_ahead_ms) > CLOCKS_DIFFER_BY_MS:
        words = f"its machine's clock is {clock_in_words(clock_ahead_ms)} the database's; set it right"
        found.append(words)
    return found
