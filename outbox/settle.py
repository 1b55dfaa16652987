"""Settling: the one place where verdicts become states, in one transaction, under the fence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from outbox import statements
from outbox.message import Message, State
from outbox.redact import redact_reason
from outbox.verdict import Outcome, RetryPolicy, Verdict

_LEASE_LOST = Verdict(Outcome.LEASE_LOST, "another relay has taken the shard")


@dataclass(slots=True)
class _Writes:
    delivered: list[tuple[Any, ...]] = field(default_factory=list)
    retrying: list[tuple[Any, ...]] = field(default_factory=list)
    dead: list[tuple[Any, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Judged:
    """A message, the verdict on it, and the wait before the next try should it be refused for now."""

    message: Message
    verdict: Verdict
    wait: timedelta = timedelta(0)
    counted: bool = False
    """The attempt was written before delivering, because an earlier relay died with this message in hand."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What came of a message; ``state`` is None where nothing was written."""

    message: Message
    verdict: Verdict
    state: State | None


def settle(
    connection: Connection, tokens: Mapping[int, str], judged: Sequence[Judged], policy: RetryPolicy, now: int
) -> list[Settled]:
    """Writes the verdicts of messages whose lease still stands; the others come back as ``lease_lost``, unwritten.

    Must run in a writing transaction: no one can then take a lease between the check and the commit.
    """
    standing = statements.tokens_standing(connection, {one.message.shard for one in judged})
    writes = _Writes()
    result = []
    for one in judged:
        fenced = one if _stands(standing, tokens, one.message) else Judged(one.message, _LEASE_LOST)
        result.append(Settled(fenced.message, fenced.verdict, _write(writes, fenced, policy, now)))
    statements.mark_delivered(connection, writes.delivered)
    statements.mark_retrying(connection, writes.retrying)
    statements.mark_dead(connection, writes.dead)
    return result


def count_attempt(connection: Connection, tokens: Mapping[int, str], message: Message, reason: str | None) -> bool:
    """Writes ``message``'s attempts and reason ahead of a delivery, under the fence; False if the lease is lost."""
    if not _stands(statements.tokens_standing(connection, [message.shard]), tokens, message):
        return False
    statements.set_attempts(connection, message.seq, message.attempts, reason)
    return True


def _stands(standing: Mapping[int, str], tokens: Mapping[int, str], message: Message) -> bool:
    return message.shard in tokens and standing.get(message.shard) == tokens[message.shard]


def _write(writes: _Writes, judged: Judged, policy: RetryPolicy, now: int) -> State | None:
    message, verdict = judged.message, judged.verdict
    which = (message.seq, message.version, message.enqueued_at)
    attempts = message.attempts + (0 if judged.counted else 1)
    match verdict.outcome:
        case Outcome.DELIVERED:
            # Attempts are refusals: one counted ahead of a delivery that went well was none.
            refusals = message.attempts - judged.counted
            writes.delivered.append(
                (message.seq, message.topic, message.key, message.version, message.enqueued_at, refusals, now)
            )
            return State.DELIVERED
        case Outcome.REFUSED_FOR_NOW if now - message.enqueued_at >= policy.give_up_after / timedelta(milliseconds=1):
            reason = redact_reason(f"given up after {policy.give_up_after}: {verdict.reason or ''}")
            writes.dead.append((*which, attempts, reason, now))
            return State.DEAD
        case Outcome.REFUSED_FOR_NOW:
            wait = min(judged.wait, policy.longest_wait)
            due = now + int(wait / timedelta(milliseconds=1))
            writes.retrying.append((*which, attempts, redact_reason(verdict.reason or ""), due))
            return State.RETRYING
        case Outcome.REFUSED_FOR_GOOD:
            writes.dead.append((*which, attempts, redact_reason(verdict.reason or ""), now))
            return State.DEAD
        case Outcome.UNREACHABLE | Outcome.TOPIC_CLOSED | Outcome.LEASE_LOST:
            return None
