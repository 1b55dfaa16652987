"""Handing messages to the gateway: the inner retry layer, and the one place where any failure becomes a verdict."""

from collections.abc import Callable, Sequence

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_result,
    stop_after_attempt,
    stop_before_delay,
    wait_exponential,
    wait_random,
)

from outbox import Message, Outcome, Verdict
from outbox.fence import LeaseLostError, Prove
from outbox.schema_version import schema_version_of
from relay.destinations.port import Delivery, Port
from relay.undeliverable import why_undeliverable

TRIES = 3
AT_MOST_SECONDS = 2.0

Sleep = Callable[[float], None]


def deliver(gateway: Port, messages: Sequence[Message], prove: Prove, sleep: Sleep) -> dict[int, Verdict]:
    """A verdict a message, by ``seq``. What is unreachable is tried 3 times, within 2 s of waiting; nothing else is.

    Never raises for what a gateway or a message does. No transaction of the daemon's database may be open.
    """
    verdicts = {one.seq: Verdict(Outcome.REFUSED_FOR_GOOD, why) for one in messages if (why := why_undeliverable(one))}

    def attempt() -> list[Message]:
        waiting = [one for one in messages if one.seq not in verdicts or _is_unreachable(verdicts[one.seq])]
        if not waiting:
            return []
        verdicts.update(_attempt(gateway, waiting, prove))
        return [one for one in waiting if _is_unreachable(verdicts[one.seq])]

    Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_attempt(TRIES) | stop_before_delay(AT_MOST_SECONDS),
        wait=wait_exponential(multiplier=0.05, max=0.5) + wait_random(0, 0.05),
        retry_error_callback=_give_back,
        sleep=sleep,
    )(attempt)
    return verdicts


def delivery_of(message: Message) -> Delivery:
    return Delivery(message.topic, message.key, message.version, message.payload)


def _attempt(gateway: Port, messages: Sequence[Message], prove: Prove) -> dict[int, Verdict]:
    try:
        batch = [delivery_of(one) for one in messages]
        verdicts = zip(messages, gateway.collect(gateway.send(batch, prove)), strict=True)
        return {message.seq: _without_contradiction(message, verdict) for message, verdict in verdicts}
    except LeaseLostError as error:
        return {one.seq: Verdict(Outcome.LEASE_LOST, str(error)) for one in messages}
    except Exception as error:  # noqa: BLE001 - the one place where every failure becomes a verdict
        if len(messages) == 1:
            reason = f"unexpected {type(error).__name__}: {error}"
            return {messages[0].seq: Verdict(Outcome.REFUSED_FOR_NOW, reason)}
    # One of them breaks the gateway in a way nobody foresaw: find it, so that its neighbours are delivered.
    middle = len(messages) // 2
    return _attempt(gateway, messages[:middle], prove) | _attempt(gateway, messages[middle:], prove)


def _without_contradiction(message: Message, verdict: Verdict) -> Verdict:
    """A topic closed above the version that the message has would leave it due at once, again and again."""
    if verdict.outcome is not Outcome.TOPIC_CLOSED or schema_version_of(message.payload) > verdict.reads:
        return verdict
    reason = f"the gateway reads schema version {verdict.reads}, and of this message alone: {verdict.reason}"
    return Verdict(Outcome.REFUSED_FOR_NOW, reason)


def _is_unreachable(verdict: Verdict) -> bool:
    return verdict.outcome is Outcome.UNREACHABLE


def _give_back(state: RetryCallState) -> object:
    return state.outcome and state.outcome.result()
