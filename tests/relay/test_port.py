"""The port of a destination: verdicts go by position, and a kind with several batches under way fits it as it is."""

from collections import deque
from collections.abc import Sequence
from dataclasses import fields

import pytest

from outbox import DELIVERED, Outcome, Verdict
from outbox.fence import Prove
from relay.deliver import deliver
from relay.destinations.port import Delivery, Handle
from tests.conftest import Stores, allowed
from tests.relay.rig import Anonymous, create_many, drain_all, draining, gateway_of
from tests.relay.test_deliver import message

ODD = Verdict(Outcome.REFUSED_FOR_GOOD, "its key is odd")


class Broker(Anonymous):
    """Batches wait on it side by side, answers come in any order, and nothing is judged until somebody collects."""

    def __init__(self) -> None:
        self.wire: deque[tuple[Handle, int, Delivery]] = deque()
        self._sizes: dict[Handle, int] = {}
        self._answers: dict[Handle, dict[int, Verdict]] = {}

    def send(self, batch: Sequence[Delivery], prove: Prove) -> Handle:
        prove()
        handle = Handle(len(self._sizes) + 1)
        self._sizes[handle], self._answers[handle] = len(batch), {}
        self.wire.extend((handle, position, one) for position, one in enumerate(batch))
        return handle

    def collect(self, handle: Handle) -> list[Verdict]:
        found = self._answers[handle]
        while len(found) < self._sizes[handle]:
            # The last sent is answered first: an answer may be another batch's.
            of, position, one = self.wire.pop()
            self._answers[of][position] = ODD if one.key.endswith("1") else DELIVERED
        return [found[position] for position in range(self._sizes[handle])]


def delivery(key: str) -> Delivery:
    return Delivery("invite.mirror", key, 1, "{}")


def test_batches_under_way_together_are_collected_in_any_order_each_with_its_own_verdicts() -> None:
    broker = Broker()
    first = broker.send([delivery("k1"), delivery("k2")], allowed)
    second = broker.send([delivery("k3"), delivery("k11"), delivery("k4")], allowed)
    assert len(broker.wire) == 5
    assert broker.collect(first) == [ODD, DELIVERED]
    assert broker.collect(second) == [DELIVERED, ODD, DELIVERED]


def test_verdicts_go_by_position_whatever_order_the_answers_came_in() -> None:
    messages = [message(seq) for seq in (30, 11, 20, 21)]
    verdicts = deliver(Broker(), messages, allowed, lambda _: None)
    assert {seq: one.outcome for seq, one in verdicts.items()} == {
        30: Outcome.DELIVERED,
        11: Outcome.REFUSED_FOR_GOOD,
        20: Outcome.DELIVERED,
        21: Outcome.REFUSED_FOR_GOOD,
    }


def test_a_relay_drains_into_such_a_kind_as_into_any_other(stores: Stores) -> None:
    create_many(stores, 20)
    with draining(stores, Broker()) as drain:
        drain_all(drain)
    for row in stores.messages():
        assert row["state"] == ("dead" if row["key"].endswith("1") else "delivered")


def test_two_batches_sent_before_either_is_collected_are_both_applied(stores: Stores) -> None:
    create_many(stores, 4)
    sent = [Delivery(row["topic"], row["key"], row["version"], row["payload"]) for row in stores.messages()]
    unknown = Delivery("nobody.knows", "k", 1, "{}")
    with gateway_of(stores) as gateway:
        first = gateway.send([unknown, *sent[:2]], allowed)
        second = gateway.send(sent[2:], allowed)
        assert [one.outcome for one in gateway.collect(second)] == [Outcome.DELIVERED] * 2
        assert [one.outcome for one in gateway.collect(first)] == [
            Outcome.REFUSED_FOR_GOOD,
            Outcome.DELIVERED,
            Outcome.DELIVERED,
        ]
        with pytest.raises(KeyError):
            gateway.collect(first)
    assert all(stores.mirrored(one.key) is not None for one in sent)


def test_a_destination_is_told_no_number_of_the_outbox() -> None:
    assert [field.name for field in fields(Delivery)] == ["topic", "key", "version", "payload"]
