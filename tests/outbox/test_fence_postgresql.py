"""P9 where many write at once: between the check of a lease and the commit nobody can take it."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from outbox import DELIVERED, Outcome, enqueue, statements, writing
from outbox.leases import Leases
from outbox.message import Destination, Message
from outbox.settle import Judged, count_attempt, settle
from tests.conftest import write
from tests.outbox.conftest import TOPIC, Outbox
from tests.outbox.test_fence import NOW, POLICY
from tests.outbox.threads import start_behind_a_lock

pytestmark = pytest.mark.only("postgresql", because="on SQLite a writing transaction is alone from its start")

Write = Callable[[Connection, dict[int, str], Message], object]


def deliver(connection: Connection, tokens: dict[int, str], message: Message) -> object:
    (settled,) = settle(connection, Destination.GATEWAY, tokens, [Judged(message, DELIVERED)], POLICY, NOW)
    return settled.verdict.outcome


def count(connection: Connection, tokens: dict[int, str], message: Message) -> object:
    return count_attempt(connection, Destination.GATEWAY, tokens, message)


@pytest.mark.parametrize("write_under_the_fence", [deliver, count])
def test_a_lapsed_lease_is_not_taken_while_what_it_allows_is_written(box: Outbox, write_under_the_fence: Write) -> None:
    message = box.message(box.put())
    tokens = box.lease_all()
    write(box.engine, "UPDATE outbox_leases SET expires_at = 0")
    impatient = box.open(busy_timeout=0)
    other = Leases(impatient, timedelta(seconds=10), Destination.GATEWAY)

    with writing(box.engine) as connection:
        write_under_the_fence(connection, tokens, message)
        with pytest.raises(OperationalError, match="lock timeout"):
            other.balance()

    assert other.balance()


@pytest.mark.parametrize(("write_under_the_fence", "lost"), [(deliver, Outcome.LEASE_LOST), (count, False)])
def test_whoever_comes_while_the_lease_is_being_taken_waits_and_writes_nothing(
    box: Outbox, write_under_the_fence: Write, lost: object
) -> None:
    message = box.message(box.put())
    before = box.row(message.seq)
    tokens = box.lease_all()

    def write_late() -> object:
        with writing(box.engine) as connection:
            return write_under_the_fence(connection, tokens, message)

    with writing(box.engine) as connection:
        taken = statements.Lease(message.shard, "another relay", "its token", NOW, 10_000)
        statements.put_leases(connection, Destination.GATEWAY, [taken])
        late = start_behind_a_lock(box.engine, write_late)

    assert late.result() == lost
    assert box.row(message.seq) == before


def test_relays_settle_their_own_shards_without_waiting_for_each_other(box: Outbox) -> None:
    one, two = (box.message(box.put(key)) for key in "ab")
    assert one.shard != two.shard
    tokens = box.lease_all()
    impatient = box.open(busy_timeout=0)

    with writing(box.engine) as first, writing(impatient) as second:
        outcomes = [deliver(first, tokens, one), deliver(second, tokens, two)]

    assert outcomes == [Outcome.DELIVERED, Outcome.DELIVERED]
    assert {row["state"] for row in box.rows()} == {"delivered"}


def test_who_enqueues_waits_for_no_relay_that_settles_the_same_key(box: Outbox) -> None:
    message = box.message(box.put("k"))
    tokens = box.lease_all()
    impatient = box.open(busy_timeout=0)

    with writing(box.engine) as connection:
        deliver(connection, tokens, message)
        with Session(impatient) as session, session.begin():
            enqueue(session, topic=TOPIC, key="k", version=2, payload="{}")

    assert [row["state"] for row in box.rows()] == ["delivered", "pending"]
