"""Settling: the one place where verdicts become states, in one transaction, under the fence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from outbox import statements
from outbox.database.encoding import storable
from outbox.message import LARGEST_COUNT, LARGEST_INTEGER, Destination, Message, State
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
    connection: Connection,
    destination: Destination,
    tokens: Mapping[int, str],
    judged: Sequence[Judged],
    policy: RetryPolicy,
    now: int,
) -> list[Settled]:
    """Writes the verdicts of messages whose lease still stands; the others come back as ``lease_lost``, unwritten.

    Must run in a writing transaction: no one can then take a lease between the check and the commit.
    """
    standing = statements.tokens_standing(connection, destination, {one.message.shard for one in judged})
    writes = _Writes()
    kept = partial(_kept, connection)
    result = []
    for one in judged:
        fenced = one if _stands(standing, tokens, one.message) else Judged(one.message, _LEASE_LOST)
        state = _write(writes, fenced, policy, now, kept)
        if fenced.counted and state is State.RETRYING:
            # A message that is refused stops no relay: those that stopped before are no longer in a row.
            statements.set_attempts(connection, destination, one.message.seq, one.message.attempts, crashes=0)
        result.append(Settled(fenced.message, fenced.verdict, state))
    statements.drop_large_payloads(connection, [one.message.seq for one in judged if one.message.unreadable])
    statements.mark_delivered(connection, destination, writes.delivered)
    statements.mark_retrying(connection, destination, writes.retrying)
    statements.mark_dead(connection, destination, writes.dead)
    return result


def count_attempt(
    connection: Connection, destination: Destination, tokens: Mapping[int, str], message: Message
) -> bool:
    """Writes ``message``'s attempts and crashes ahead of a delivery, under the fence; False if the lease is lost."""
    if not _stands(statements.tokens_standing(connection, destination, [message.shard]), tokens, message):
        return False
    statements.set_attempts(connection, destination, message.seq, message.attempts, message.crashes)
    return True


def _stands(standing: Mapping[int, str], tokens: Mapping[int, str], message: Message) -> bool:
    return message.shard in tokens and standing.get(message.shard) == tokens[message.shard]


def _write(writes: _Writes, judged: Judged, policy: RetryPolicy, now: int, kept: Callable[[str], str]) -> State | None:
    message, verdict = judged.message, judged.verdict
    which = (message.seq, message.version, message.enqueued_at)
    attempts = min(message.attempts + (0 if judged.counted else 1), LARGEST_COUNT)
    refused_for_ms = message.refused_for_ms
    if verdict.outcome is Outcome.REFUSED_FOR_NOW:
        refused_for_ms = min(refused_for_ms + _since_last_refusal(message, policy, now), LARGEST_INTEGER)
    match verdict.outcome:
        case Outcome.DELIVERED:
            # Attempts are refusals: one counted ahead of a delivery that went well was none.
            refusals = message.attempts - judged.counted
            writes.delivered.append(
                (message.seq, message.topic, message.key, message.version, message.enqueued_at, refusals, now)
            )
            return State.DELIVERED
        case Outcome.REFUSED_FOR_NOW if refused_for_ms >= policy.give_up_after / timedelta(milliseconds=1):
            reason = kept(f"given up after {policy.give_up_after} of refusals: {verdict.reason or ''}")
            writes.dead.append((*which, attempts, reason, refused_for_ms, now))
            return State.DEAD
        case Outcome.REFUSED_FOR_NOW:
            wait = min(judged.wait, policy.longest_wait)
            due = now + int(wait / timedelta(milliseconds=1))
            writes.retrying.append((*which, attempts, kept(verdict.reason or ""), refused_for_ms, now, due))
            return State.RETRYING
        case Outcome.REFUSED_FOR_GOOD:
            writes.dead.append((*which, attempts, kept(verdict.reason or ""), refused_for_ms, now))
            return State.DEAD
        case Outcome.UNREACHABLE | Outcome.TOPIC_CLOSED | Outcome.LEASE_LOST:
            return None


def _kept(connection: Connection, reason: str) -> str:
    return storable(connection, redact_reason(reason))


def _since_last_refusal(message: Message, policy: RetryPolicy, now: int) -> int:
    """How much longer, in ms, a message was refused: at most twice the wait between, never less than 0.

    An outage, or a clock that jumps, makes the last refusal seem long ago, and is no time of refusals.
    """
    if message.refused_at is None or message.available_at is None:
        return 0
    wait = min(message.available_at - message.refused_at, policy.longest_wait // timedelta(milliseconds=1))
    return max(0, min(now - message.refused_at, 2 * wait))
