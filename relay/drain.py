"""One batch: read, deliver, settle. No transaction is open while the gateway is called."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outbox import Destination, Message, Outcome, Verdict, reading, statements, writing
from outbox.clock import now_ms
from outbox.database.driver import is_of_a_row
from outbox.horizon import Horizon
from outbox.leases import Leases
from outbox.message import LARGEST_COUNT
from outbox.redact import reason_of
from outbox.settle import Judged, Settled, count_attempt
from outbox.settle_apart import settle_apart
from relay.apart import SetApart
from relay.backoff import wait_before_next_attempt
from relay.closed_topics import ClosedTopics
from relay.deliver import Sleep, deliver
from relay.destinations.port import GatewayUnreachableError, Port
from relay.settings import Settings

# Retries get at most this part of a batch: a heap of refused messages must not hold up new ones.
RETRIES_PART = 4
MAX_BATCH_BYTES = 8 * 2**20
# While the daemon writes: settling a batch keeps SQLite's only write lock, and the daemon's caller waits for it.
SMALL_BATCH = 50
DAEMON_AT_WORK_SECONDS = 5.0
DEADLY_AFTER = 5
# So many of those that wait are the one message of a trial, in turn, until one succeeds.
TRIED_IN_TURN = 16
# What says nothing about the message: it stays as it is.
UNCOUNTED = (Outcome.UNREACHABLE, Outcome.TOPIC_CLOSED, Outcome.LEASE_LOST)
# Of a larger batch the log names the lowest and the highest seq: a line of 20 KB costs more than settling one.
NAMED_AT_MOST = 20

log = structlog.get_logger()


@dataclass(slots=True)
class Drain:
    """What one relay drains with, and the messages that an earlier relay may have died of."""

    outbox: Engine
    gateway: Port
    leases: Leases
    settings: Settings
    sleep: Sleep
    woken_within: Callable[[float], bool] = lambda _: False
    """Whether messages were enqueued within the last so many seconds."""
    before_settling: Callable[[], None] = lambda: None
    """Called with the answers of the gateway had, and no transaction open."""
    suspects: deque[int] = field(default_factory=deque)
    closed: ClosedTopics = field(init=False)
    apart: SetApart = field(default_factory=SetApart)
    _horizon: Horizon = field(default_factory=Horizon)
    _trial: int | None = None
    """After an outage: how many messages the next batch may have. One first, so that a message which the gateway falls
    over is found in a few batches, and not every batch ends with it."""
    _failed_trials: int = 0
    """In a row: each time another message is the first, so that none can hold up the others."""
    _in_hand: dict[int, Message] = field(default_factory=dict)
    """By seq, suspects that were tried, each as it was before this relay counted the attempt."""

    def __post_init__(self) -> None:
        self.closed = ClosedTopics(self.settings)

    def suspect(self, shards: Sequence[int]) -> None:
        """Notes what the last relay of these shards may have had in hand: the first batch it would have read."""
        if shards:
            found = self._read(shards, Horizon(), self.settings.batch_size)
            self.suspects.extend(message.seq for message in found if message.seq not in self.suspects)

    def batch(self) -> list[Settled]:
        """Delivers and settles one batch, or one suspect; empty when nothing of this relay's shards is due.

        Unreachable verdicts come back too; they left no trace in the outbox.
        """
        tokens = self.leases.tokens
        while self.suspects:
            seq = self.suspects[0]
            settled = self._suspect_alone(tokens, seq)
            # Only now: where the outbox failed meanwhile, it is a suspect still.
            self.suspects.popleft()
            if any(one.verdict.outcome in (Outcome.UNREACHABLE, Outcome.LEASE_LOST) for one in settled):
                # After the others: it may be what the gateway falls over.
                self.suspects.append(seq)
            elif any(one.state is not None for one in settled):
                self._in_hand.pop(seq, None)
            if settled:
                return settled
        messages = self._next(tokens)
        deliverable = [message for message in messages if message.newer_dead_seq is None]
        verdicts = self._deliver(deliverable, tokens) if deliverable else {}
        settled = self._settle(tokens, [self._judge(message, verdicts.get(message.seq)) for message in messages])
        self.apart.note(settled)
        self.closed.learn(settled)
        self._learn_size(settled)
        return settled

    def _next(self, tokens: Mapping[int, str]) -> list[Message]:
        """The messages of the next batch; one of each topic that is closed and may be probed."""
        if not tokens or self.apart.is_full:
            return []
        found = self._read(tokens, self._horizon, self._size(), [*self.closed.shut(), *self.apart.left()])
        for message in self.closed.not_left(found):
            self.apart.add(message, "it waits for a newer destination, and its payload says its version in an odd way")
        messages = self.closed.without_all_but_one(self.apart.without_unsettled(_newest_of_each_key(found)))
        if self._trial is None or not messages:
            return messages
        first = self._failed_trials % len(messages)
        return messages[first : first + self._trial]

    def _deliver(self, messages: Sequence[Message], tokens: Mapping[int, str]) -> dict[int, Verdict]:
        in_hand = {message.shard: tokens[message.shard] for message in messages}
        verdicts = deliver(self.gateway, messages, partial(self.leases.prove, in_hand), self.sleep)
        self.before_settling()
        return verdicts

    @property
    def _destination(self) -> Destination:
        return self.leases.destination

    def _size(self) -> int:
        size = self.settings.batch_size
        if self._trial is not None:
            size = min(max(self._trial, TRIED_IN_TURN, self._failed_trials + 1), size)
        has_one_write_lock = self.outbox.dialect.name == "sqlite"
        return min(SMALL_BATCH, size) if has_one_write_lock and self.woken_within(DAEMON_AT_WORK_SECONDS) else size

    def _learn_size(self, settled: Sequence[Settled]) -> None:
        if _any_unreachable(settled):
            self._trial, self._failed_trials = 1, self._failed_trials + 1
        elif self._trial is not None and settled:
            self._trial, self._failed_trials = 2 * self._trial, 0
            if self._trial > self.settings.batch_size:
                self._trial = None

    def _read(
        self, shards: Iterable[int], horizon: Horizon, size: int, but: Sequence[statements.Left] = ()
    ) -> list[Message]:
        now = now_ms()
        too_far = self.settings.retry_policy.too_far(now)
        part, part_bytes = max(1, size // RETRIES_PART), MAX_BATCH_BYTES // RETRIES_PART
        with reading(self.outbox) as connection:
            pending, any_retrying = horizon.pending(connection, self._destination, shards, size, MAX_BATCH_BYTES, but)
            if not any_retrying:
                return pending
            due = statements.retries_due(
                connection, self._destination, shards, part, part_bytes, now=now, too_far=too_far, but=but
            )
            return due + pending

    def _suspect_alone(self, tokens: dict[int, str], seq: int) -> list[Settled]:
        """Retries a message alone, its attempt counted before delivering, so that one that kills its relay ends.

        Empty where it waits no more, or an ordinary batch may take it.
        """
        with reading(self.outbox) as connection:
            message = statements.one_unsettled(connection, self._destination, seq)
        if message is None or message.shard not in tokens or message.newer_dead_seq is not None:
            return []
        if seq in self.apart.seqs:
            return []
        message = self._without_own_count(message)
        if message.crashes >= DEADLY_AFTER:
            reason = (
                f"relays in a row stopped while delivering it: {message.crashes}; "
                f"look at it with `relay dead show {seq}`"
            )
            return self._settle(tokens, [Judged(message, Verdict(Outcome.REFUSED_FOR_GOOD, reason), counted=True)])
        try:
            # An outage must cost no attempts, so nothing is counted unless the gateway answers.
            self.gateway.probe()
        except GatewayUnreachableError as error:
            return [Settled(message, Verdict(Outcome.UNREACHABLE, str(error)), None)]
        counted = _counted(message)
        if not self._write_attempts(tokens, counted):
            return []
        verdict = self._deliver([message], tokens)[seq]
        if verdict.outcome in UNCOUNTED:
            self._write_attempts(tokens, message)
            return [Settled(message, verdict, None)]
        return self._settle(tokens, [self._judge(counted, verdict, counted=True)])

    def _without_own_count(self, message: Message) -> Message:
        """This relay lives: an attempt that it counted itself, and could not settle in an outage, was no crash."""
        before = self._in_hand.get(message.seq)
        if before is None or message != _counted(before):
            before = self._in_hand[message.seq] = message
        return before

    def _judge(self, message: Message, verdict: Verdict | None, counted: bool = False) -> Judged:
        if verdict is None:
            newer = message.newer_dead_seq
            reason = f"message {newer} of the same key is newer and dead; `relay dead retry {newer}` retries both"
            verdict = Verdict(Outcome.REFUSED_FOR_GOOD, reason)
        if verdict.outcome is not Outcome.REFUSED_FOR_NOW:
            return Judged(message, verdict, counted=counted)
        attempts = message.attempts if counted else message.attempts + 1
        return Judged(message, verdict, wait_before_next_attempt(attempts, self.settings), counted)

    def _settle(self, tokens: dict[int, str], judged: list[Judged]) -> list[Settled]:
        settled = [Settled(one.message, one.verdict, None) for one in judged]
        if any(one.verdict.outcome not in UNCOUNTED for one in judged):
            policy = self.settings.retry_policy
            settled, refused = settle_apart(self.outbox, self._destination, tokens, judged, policy, now_ms())
            for message, problem in refused:
                self.apart.add(message, problem)
        _log(settled)
        return settled

    def _write_attempts(self, tokens: dict[int, str], message: Message) -> bool:
        try:
            with writing(self.outbox) as connection:
                return count_attempt(connection, self._destination, tokens, message)
        except (DBAPIError, OverflowError, MemoryError) as error:
            if not is_of_a_row(error):
                raise
            self.apart.add(message, reason_of(error))
            return False


def _counted(message: Message) -> Message:
    attempts = min(message.attempts + 1, LARGEST_COUNT)
    return message._replace(attempts=attempts, crashes=message.crashes + 1)


def _any_unreachable(settled: Iterable[Settled]) -> bool:
    return any(one.verdict.outcome is Outcome.UNREACHABLE for one in settled)


def _newest_of_each_key(messages: Iterable[Message]) -> list[Message]:
    """Of messages with one key the one with the highest version, of several with that the last enqueued.

    The others are superseded once it is delivered.
    """
    newest: dict[tuple[str, str], Message] = {}
    for message in messages:
        known = newest.get((message.topic, message.key))
        if known is None or (message.version, message.seq) > (known.version, known.seq):
            newest[message.topic, message.key] = message
    return list(newest.values())


def _log(settled: Sequence[Settled]) -> None:
    delivered = [one.message for one in settled if one.verdict.outcome is Outcome.DELIVERED]
    if len(delivered) > NAMED_AT_MOST:
        seqs = [message.seq for message in delivered]
        log.info("delivered", count=len(delivered), seqs=(min(seqs), max(seqs)))
    elif delivered:
        log.info("delivered", count=len(delivered), invites=[message.key for message in delivered])
    lost = {one.message.shard: one for one in settled if one.verdict.outcome is Outcome.LEASE_LOST}
    if lost:
        log.warning("lease_lost", shards=sorted(lost), reason=next(iter(lost.values())).verdict.reason)
    for one in settled:
        if one.verdict.outcome not in (Outcome.DELIVERED, *UNCOUNTED):
            log.warning(
                one.verdict.outcome.value,
                invite=one.message.key,
                seq=one.message.seq,
                state=one.state and one.state.value,
                reason=one.verdict.reason,
            )
