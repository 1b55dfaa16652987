"""Topics that the destination is too old for: their messages stay pending, behind one probe, and others go on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from outbox import Message, Outcome, Verdict
from outbox.schema_version import schema_version_of
from outbox.settle import Settled
from outbox.statements import NewerThan
from relay.backoff import Breaker
from relay.settings import Settings

# What only a destination that took the message says of it.
ANSWERED = (Outcome.DELIVERED, Outcome.REFUSED_FOR_NOW, Outcome.REFUSED_FOR_GOOD)

log = structlog.get_logger()


@dataclass(slots=True)
class _Closed:
    """Messages of the topic with a schema version above ``reads`` wait; 0 means all of them."""

    reads: int
    breaker: Breaker


@dataclass(slots=True)
class ClosedTopics:
    """What one relay knows of the topics that its destination cannot take yet. In memory only: it costs one probe."""

    settings: Settings
    _closed: dict[str, _Closed] = field(default_factory=dict)

    @property
    def reasons(self) -> dict[str, str]:
        """Why each closed topic is closed."""
        return {topic: closed.breaker.reason for topic, closed in self._closed.items()}

    def shut(self) -> list[NewerThan]:
        """What must not be read now: all that waits behind a probe which is not due yet."""
        return [
            NewerThan(topic, closed.reads)
            for topic, closed in self._closed.items()
            if closed.breaker.seconds_to_probe() > 0
        ]

    def all(self) -> list[NewerThan]:
        """What waits for a newer destination, probed or not."""
        return [NewerThan(topic, closed.reads) for topic, closed in self._closed.items()]

    def without_all_but_one(self, messages: Iterable[Message]) -> list[Message]:
        """Of each topic whose probe is due, one message that had to wait: that is the probe."""
        probed: set[str] = set()
        kept = []
        for message in messages:
            closed = self._closed.get(message.topic)
            if closed is not None and _must_wait(message, closed):
                if message.topic in probed or closed.breaker.seconds_to_probe() > 0:
                    continue
                probed.add(message.topic)
            kept.append(message)
        return kept

    def not_left(self, messages: Iterable[Message]) -> list[Message]:
        """Those that were read although their topic is shut: SQL reads their version otherwise than a destination."""
        return [
            one
            for one in messages
            if (closed := self._closed.get(one.topic)) is not None
            and closed.breaker.seconds_to_probe() > 0
            and _must_wait(one, closed)
        ]

    def learn(self, settled: Sequence[Settled]) -> None:
        """Closes, keeps closed or opens topics by what came of a batch."""
        for topic, one in {one.message.topic: one for one in settled if _is_closed(one)}.items():
            self._close(topic, one.verdict)
        for one in settled:
            closed = self._closed.get(one.message.topic)
            if closed is not None and one.verdict.outcome in ANSWERED and _must_wait(one.message, closed):
                del self._closed[one.message.topic]
                log.info("topic_open_again", topic=one.message.topic)

    def _close(self, topic: str, verdict: Verdict) -> None:
        is_new = topic not in self._closed
        closed = self._closed.setdefault(topic, _Closed(verdict.reads, Breaker(self.settings)))
        closed.reads = min(closed.reads, verdict.reads)
        wait = closed.breaker.failed(verdict.reason or "")
        if is_new:
            log.warning(
                "topic_closed",
                topic=topic,
                reason=verdict.reason,
                effect="its messages stay pending, no attempt is counted; other topics go on",
                next_probe_in_seconds=round(wait.total_seconds(), 1),
            )


def _must_wait(message: Message, closed: _Closed) -> bool:
    return schema_version_of(message.payload) > closed.reads


def _is_closed(settled: Settled) -> bool:
    return settled.verdict.outcome is Outcome.TOPIC_CLOSED
