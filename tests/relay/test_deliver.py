"""Handing a batch to a gateway that misbehaves: a verdict a message, and one bad message harms itself alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from outbox import DELIVERED, Message, Outcome, Verdict
from outbox.fence import Prove
from relay.deliver import deliver
from relay.destinations.port import Delivery
from tests.conftest import Stores, allowed, message_of
from tests.relay.rig import Anonymous, Meddling, drain_all, draining, gateway_of


@dataclass(slots=True)
class Scripted(Anonymous):
    """A gateway with one bad key and a script of verdicts."""

    bad: str = ""
    error: Exception = field(default_factory=lambda: RuntimeError("boom"))
    script: list[Verdict] = field(default_factory=list)
    calls: int = 0

    def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        prove()
        self.calls += 1
        if any(message.key == self.bad for message in messages):
            raise self.error
        return [self.script.pop(0) if self.script else DELIVERED for _ in messages]


def message(seq: int, key: str = "") -> Message:
    return Message(seq, "invite.mirror", key or f"k{seq}", 1, 0, "{}", "live", 0, "pending", 0, None, None)


@pytest.mark.parametrize("position", [0, 1, 7, 14, 15])
def test_an_unexpected_exception_refuses_the_message_that_raises_it_and_no_other(position: int) -> None:
    messages = [message(seq) for seq in range(16)]
    gateway = Scripted(bad=f"k{position}")
    verdicts = deliver(gateway, messages, allowed, lambda _: None)
    assert verdicts.keys() == set(range(16))
    assert [seq for seq, one in verdicts.items() if one.outcome is not Outcome.DELIVERED] == [position]
    assert verdicts[position] == Verdict(Outcome.REFUSED_FOR_NOW, "unexpected RuntimeError: boom")
    assert gateway.calls <= 10, "found by halving, not one by one"


def test_a_gateway_that_answers_too_few_verdicts_settles_nothing_by_mistake() -> None:
    class Forgetful(Scripted):
        def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
            prove()
            return [DELIVERED] * (len(messages) - 1)

    verdicts = deliver(Forgetful(), [message(seq) for seq in range(4)], allowed, lambda _: None)
    assert [one.outcome for one in verdicts.values()] == [Outcome.REFUSED_FOR_NOW] * 4


def test_the_reason_of_an_unexpected_exception_holds_no_hash_and_no_token() -> None:
    token = "t" * 43
    gateway = Scripted(bad="k1", error=RuntimeError(f"saw {'ab' * 32} and {token}"))
    reason = deliver(gateway, [message(1)], allowed, lambda _: None)[1].reason or ""
    assert "ab" * 32 not in reason
    assert token not in reason
    assert "abab" not in reason
    assert reason.endswith("saw [hash] and [token]")


def test_what_is_unreachable_is_tried_three_times_and_what_was_answered_is_not_asked_again() -> None:
    down = Verdict(Outcome.UNREACHABLE, "down")
    gateway = Scripted(script=[DELIVERED, down, down, DELIVERED])
    verdicts = deliver(gateway, [message(1), message(2)], allowed, lambda _: None)
    assert gateway.calls == 3
    assert [one.outcome for one in verdicts.values()] == [Outcome.DELIVERED] * 2


def test_the_waits_inside_a_delivery_stay_below_two_seconds() -> None:
    down = Verdict(Outcome.UNREACHABLE, "down")
    waits: list[float] = []
    gateway = Scripted(script=[down] * 9)
    verdicts = deliver(gateway, [message(1)], allowed, waits.append)
    assert verdicts[1] == down
    assert len(waits) == 2
    assert 0 < sum(waits) < 2


@pytest.mark.parametrize("outcome", [Outcome.REFUSED_FOR_NOW, Outcome.REFUSED_FOR_GOOD])
def test_a_refusal_is_not_tried_again_inside_a_delivery(outcome: Outcome) -> None:
    gateway = Scripted(script=[Verdict(outcome, "no")])
    assert deliver(gateway, [message(1)], allowed, lambda _: None)[1].outcome is outcome
    assert gateway.calls == 1


def test_in_a_real_batch_the_neighbours_of_a_message_that_breaks_the_gateway_are_delivered_at_once(
    stores: Stores,
) -> None:
    ids = [stores.create().invite.id for _ in range(20)]
    bad = ids[11]

    def break_on_bad(messages: Sequence[Delivery]) -> None:
        if any(one.key == bad for one in messages):
            raise ZeroDivisionError("nobody foresaw this")

    with gateway_of(stores) as real, draining(stores, Meddling(real, before=break_on_bad)) as drain:
        drain_all(drain)
    states = {row["key"]: (row["state"], row["attempts"]) for row in stores.messages()}
    assert states.pop(bad) == ("retrying", 1)
    assert set(states.values()) == {("delivered", 0)}
    assert all(stores.mirrored(id_) is not None for id_ in ids if id_ != bad)


def test_a_message_read_from_the_outbox_does_not_show_its_payload_in_its_repr(stores: Stores) -> None:
    created = stores.create()
    shown = repr(message_of(stores.messages()[0]))
    assert created.invite.token_hash not in shown
    assert created.invite.id in shown
