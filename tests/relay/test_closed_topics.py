"""The row "topic closed" of the verdict table: what a destination is too old for waits, and nothing else does."""

import json
from collections.abc import Sequence

import pytest

from outbox import DELIVERED, Outcome, Verdict
from outbox.fence import Prove
from relay.destinations.port import Delivery
from relay.errors import UnrepairedError
from relay.worker import Worker
from tests.conftest import Stores, write
from tests.relay.rig import Anonymous, create_many, drain_all, draining, outcomes, settings_of


class Older(Anonymous):
    """A gateway that reads payloads up to a version, and knows some topics; it takes whatever else it is given."""

    def __init__(self, reads: int = 1, topics: Sequence[str] = ("invite.mirror",)) -> None:
        self.reads, self.topics = reads, list(topics)
        self.asked: list[list[str]] = []

    def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        prove()
        self.asked.append([message.key for message in messages])
        return [self._judge(message) for message in messages]

    def _judge(self, message: Delivery) -> Verdict:
        if message.topic not in self.topics:
            return Verdict(Outcome.TOPIC_CLOSED, "unknown method", reads=0)
        if json.loads(message.payload).get("schemaVersion", 1) > self.reads:
            return Verdict(Outcome.TOPIC_CLOSED, "newer than this gateway", reads=self.reads)
        return DELIVERED


def make_newer(stores: Stores, seqs: Sequence[int], version: int = 2) -> None:
    for row in stores.messages():
        if row["seq"] in seqs:
            payload = json.dumps(json.loads(row["payload"]) | {"schemaVersion": version})
            write(stores.source, "UPDATE outbox_messages SET payload = :p WHERE seq = :s", p=payload, s=row["seq"])


def test_newer_messages_wait_untouched_and_those_behind_them_are_delivered(stores: Stores) -> None:
    create_many(stores, 12)
    newer = [row["seq"] for row in stores.messages()][:10]
    make_newer(stores, newer)
    before = stores.messages()[:10]
    gateway = Older()
    with draining(stores, gateway, batch_size=4) as drain:
        drain_all(drain)
        assert drain.closed.reasons == {"invite.mirror": "newer than this gateway"}
    assert stores.messages()[:10] == before
    assert stores.states()[10:] == ["delivered"] * 2


def test_behind_a_closed_topic_one_message_is_the_probe_and_all_flow_once_it_is_taken(stores: Stores) -> None:
    create_many(stores, 10)
    make_newer(stores, [row["seq"] for row in stores.messages()])
    gateway = Older()
    with draining(stores, gateway, probe_longest=0.001) as drain:
        drain.batch()
        gateway.asked.clear()
        while len(gateway.asked) < 3:
            drain.batch()
        assert [len(asked) for asked in gateway.asked] == [1, 1, 1]
        gateway.reads = 2
        while "pending" in stores.states():
            drain.batch()
        assert drain.closed.reasons == {}
    assert {(row["state"], row["attempts"]) for row in stores.messages()} == {("delivered", 0)}


def test_a_topic_that_the_gateway_does_not_know_holds_up_no_other(stores: Stores) -> None:
    create_many(stores, 6)
    write(stores.source, "UPDATE outbox_messages SET topic = 'contact.mirror' WHERE seq % 2 = 1")
    gateway = Older()
    with draining(stores, gateway, batch_size=2) as drain:
        drain_all(drain)
        assert list(drain.closed.reasons) == ["contact.mirror"]
    assert {(row["topic"], row["state"], row["attempts"]) for row in stores.messages()} == {
        ("contact.mirror", "pending", 0),
        ("invite.mirror", "delivered", 0),
    }


def test_an_older_message_of_a_key_waits_behind_its_newer_one(stores: Stores) -> None:
    invite = stores.create().invite
    stores.revoke(invite.id)
    make_newer(stores, [stores.messages()[1]["seq"]])
    gateway = Older()
    with draining(stores, gateway) as drain:
        drain_all(drain)
    assert stores.states() == ["pending", "pending"], "the older one would show the invite as open"


def test_until_empty_ends_and_says_what_waits_for_a_newer_gateway(stores: Stores) -> None:
    create_many(stores, 3)
    make_newer(stores, [stores.messages()[0]["seq"]])
    with pytest.raises(UnrepairedError, match=r"wait for a newer gateway.*upgrade it"):
        Worker(stores.source, Older(), settings_of(stores)).run(until_empty=True)
    assert stores.states() == ["pending", "delivered", "delivered"]


NO_VERSION, NO_NEWER_ONE = ["2", True, 2.5, 2**53], [None, 1.0, 1]


@pytest.mark.parametrize(
    ("version", "state"), [*((one, "dead") for one in NO_VERSION), *((one, "delivered") for one in NO_NEWER_ONE)]
)
def test_what_is_no_newer_version_waits_for_no_newer_gateway(stores: Stores, version: object, state: str) -> None:
    create_many(stores, 3)
    first, odd, _ = stores.messages()
    make_newer(stores, [first["seq"]])
    payload = json.dumps(json.loads(odd["payload"]) | {"schemaVersion": version})
    write(stores.source, "UPDATE outbox_messages SET payload = :p WHERE seq = :s", p=payload, s=odd["seq"])

    class Taking(Older):
        def _judge(self, message: Delivery) -> Verdict:
            return DELIVERED if message.key != first["key"] else super()._judge(message)

    with draining(stores, Taking(), batch_size=1) as drain:
        drain_all(drain)
    assert stores.states() == ["pending", state, "delivered"]


@pytest.mark.parametrize("reads", [1, 2, 5])
def test_an_answer_that_contradicts_itself_concerns_its_message_alone(stores: Stores, reads: int) -> None:
    """Closed above a version that the message has not, the topic would leave it due at once, for ever."""
    create_many(stores, 3)
    first = stores.messages()[0]["key"]

    class Contradicting(Older):
        def _judge(self, message: Delivery) -> Verdict:
            return Verdict(Outcome.TOPIC_CLOSED, "newer", reads=reads) if message.key == first else DELIVERED

    with draining(stores, Contradicting()) as drain:
        drain_all(drain)
        assert drain.closed.reasons == {}
    assert stores.states() == ["retrying", "delivered", "delivered"]
    assert "newer" in stores.messages()[0]["last_error"]


def test_after_an_outage_batches_begin_with_one_message_and_grow(stores: Stores) -> None:
    create_many(stores, 40)
    gateway = Older()
    down = [True]

    def deliver(messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        if down[0]:
            return [Verdict(Outcome.UNREACHABLE, "down")] * len(messages)
        return Older.deliver(gateway, messages, prove)

    gateway.deliver = deliver  # type: ignore[method-assign]
    with draining(stores, gateway, batch_size=16) as drain:
        assert set(outcomes(drain.batch())) == {Outcome.UNREACHABLE}
        down[0] = False
        drain_all(drain)
    assert [len(asked) for asked in gateway.asked] == [1, 2, 4, 8, 16, 9]


def test_one_message_that_looks_like_an_outage_when_it_is_alone_holds_up_no_other(stores: Stores) -> None:
    create_many(stores, 5)
    first = stores.messages()[0]["key"]

    class Odd(Older):
        def _judge(self, message: Delivery) -> Verdict:
            return Verdict(Outcome.UNREACHABLE, "locked") if message.key == first else super()._judge(message)

    with draining(stores, Odd()) as drain:
        for _ in range(10):
            drain.batch()
    assert stores.states() == ["pending"] + ["delivered"] * 4
