"""Two outboxes in one database: neither sees the other's messages, leases or relays."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from outbox import (
    DELIVERED,
    SHARDS,
    Destination,
    Origin,
    OutboxFullError,
    Outcome,
    RetryPolicy,
    Verdict,
    enqueue,
    reading,
    statements,
    writing,
)
from outbox.dead import list_dead, retry_all_dead, retry_dead
from outbox.enqueue import enqueue_many
from outbox.horizon import Horizon
from outbox.leases import LONGEST_LEASE, Leases, live_relays
from outbox.prune import prune
from outbox.settle import Judged, count_attempt, settle
from tests.conftest import rows, write
from tests.outbox.conftest import TOPIC, Outbox

HERE, THERE = Destination.GATEWAY, Destination.ASSISTANT
POLICY = RetryPolicy(give_up_after=timedelta(hours=24), longest_wait=timedelta(minutes=5))
FAR = 10**15


def put(box: Outbox, destination: Destination, key: str = "k", version: int = 1, **columns: object) -> int:
    with Session(box.engine) as session, session.begin():
        enqueue(session, topic=TOPIC, key=key, version=version, payload="{}", destination=destination)
    seq: int = rows(box.engine, "SELECT max(seq) AS seq FROM outbox_messages")[0]["seq"]
    box.change(seq, **columns)
    return seq


def leases_of(box: Outbox, destination: Destination, owner: str) -> Leases:
    leases = Leases(box.engine, LONGEST_LEASE, destination, owner=owner)
    leases.balance()
    return leases


@pytest.fixture
def other(box: Outbox) -> Iterator[list[dict[str, object]]]:
    """A message in every state for the other destination, of the key that the test uses; none of it may change."""
    put(box, THERE, version=9)
    put(box, THERE, version=8, state="retrying", available_at=0, attempts=3)
    put(box, THERE, version=7, state="dead", settled_at=1)
    put(box, THERE, version=6, state="delivered", settled_at=1)
    put(box, THERE, "replayed", version=6)
    write(box.engine, "UPDATE outbox_messages SET origin = 'replay' WHERE key = 'replayed'")
    before = box.rows("destination = 'assistant'")
    yield before
    assert box.rows("destination = 'assistant'") == before


NOTHING: dict[str, Callable[[Connection], object]] = {
    "pending": lambda c: statements.pending(c, HERE, range(SHARDS), 10, 10**6).messages,
    "pending from the horizon": lambda c: Horizon().pending(c, HERE, range(SHARDS), 10, 10**6).messages,
    "retries_due": lambda c: statements.retries_due(c, HERE, range(SHARDS), 10, 10**6, now=FAR, too_far=FAR),
    "anything_due": lambda c: statements.anything_due(c, HERE, FAR, FAR),
    "one_unsettled": lambda c: statements.one_unsettled(c, HERE, 1),
    "count_by_state": lambda c: statements.count_by_state(c, HERE),
    "count_unsettled_up_to": lambda c: statements.count_unsettled_up_to(c, HERE, 10),
    "oldest_unsettled_at": lambda c: statements.oldest_unsettled_at(c, HERE),
    "unsettled_since": lambda c: statements.unsettled_since(c, HERE, 0),
    "unsettled_keys": lambda c: statements.unsettled_keys(c, HERE, TOPIC, ["k"]),
    "dead_messages": lambda c: statements.dead_messages(c, HERE, 0, 10),
    "open_replayed": lambda c: list(statements.open_replayed(c, HERE)),
    "replayed_just_now": lambda c: statements.replayed_just_now(c, HERE, TOPIC, ["replayed"]),
    "delete_settled_before": lambda c: statements.delete_settled_before(c, HERE, FAR, 10),
}


@pytest.mark.parametrize("name", NOTHING)
def test_a_statement_of_one_destination_finds_nothing_of_the_other(
    box: Outbox, other: list[dict[str, object]], name: str
) -> None:
    assert other
    with writing(box.engine) as connection:
        assert not NOTHING[name](connection)


def test_a_newer_message_of_the_other_destination_holds_up_none_of_this_one_nor_kills_it(
    box: Outbox, other: list[dict[str, object]]
) -> None:
    assert other
    seq = put(box, HERE, version=1)

    (message,) = box.pending()

    assert (message.seq, message.newer_dead_seq) == (seq, None)


VERDICTS = [DELIVERED, Verdict(Outcome.REFUSED_FOR_NOW, "no"), Verdict(Outcome.REFUSED_FOR_GOOD, "never")]


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: verdict.outcome.value)
def test_settling_changes_nothing_of_the_other_destination(
    box: Outbox, other: list[dict[str, object]], verdict: Verdict
) -> None:
    assert other
    seq = put(box, HERE, version=10)
    tokens = leases_of(box, HERE, "a").tokens

    with writing(box.engine) as connection:
        settle(connection, HERE, tokens, [Judged(box.message(seq), verdict)], POLICY, now=5)

    assert box.state(seq) in ("delivered", "retrying", "dead")


@pytest.mark.parametrize("verdict", VERDICTS, ids=lambda verdict: verdict.outcome.value)
def test_a_message_of_the_other_destination_is_not_settled_even_if_it_is_handed_over(
    box: Outbox, other: list[dict[str, object]], verdict: Verdict
) -> None:
    tokens = leases_of(box, HERE, "a").tokens
    message = box.message(int(str(other[0]["seq"])))

    with writing(box.engine) as connection:
        settle(connection, HERE, tokens, [Judged(message, verdict)], POLICY, now=5)
        count_attempt(connection, HERE, tokens, message._replace(attempts=9))


def test_the_lease_of_one_destination_proves_nothing_for_the_other(box: Outbox) -> None:
    seq = put(box, HERE)
    tokens = leases_of(box, THERE, "a").tokens

    with writing(box.engine) as connection:
        (settled,) = settle(connection, HERE, tokens, [Judged(box.message(seq), DELIVERED)], POLICY, now=5)

    assert settled.verdict.outcome is Outcome.LEASE_LOST
    assert box.state(seq) == "pending"


def test_relays_of_two_destinations_hold_all_shards_of_their_own_and_sign_off_alone(box: Outbox) -> None:
    here, there = leases_of(box, HERE, "a"), leases_of(box, THERE, "b")
    for one in (here, there):
        one.renew()
        one.balance()
    both = [len(one.tokens) for one in (here, there)]
    with reading(box.engine) as connection:
        now = statements.lease_clock(connection)
        living = [[one.id for one in live_relays(connection, to, now)] for to in (HERE, THERE)]

    here.release()

    assert both == [SHARDS, SHARDS]
    assert living == [["a"], ["b"]]
    assert rows(box.engine, "SELECT DISTINCT owner FROM outbox_leases") == [{"owner": "b"}]
    assert rows(box.engine, "SELECT id FROM outbox_relays") == [{"id": "b"}]


def test_a_lapsed_shard_of_one_destination_is_not_taken_for_the_other(box: Outbox) -> None:
    leases_of(box, THERE, "crashed")
    write(box.engine, "UPDATE outbox_leases SET expires_at = 0")

    assert Leases(box.engine, LONGEST_LEASE, HERE, owner="a").balance() == []


def test_dead_letters_are_listed_retried_and_pruned_by_their_destination(
    box: Outbox, other: list[dict[str, object]]
) -> None:
    assert other
    dead = put(box, HERE, version=1, state="dead", settled_at=1)
    done = put(box, HERE, "done", state="delivered", settled_at=1)

    listed = [row["seq"] for row in list_dead(box.engine, HERE)]
    retried = retry_all_dead(box.engine, HERE)
    pruned = prune(box.engine, HERE, timedelta(0))

    assert (listed, retried, pruned) == ([dead], 1, 1)
    assert [row["seq"] for row in box.rows("destination = 'gateway'")] == [dead]
    assert done != dead


def test_a_dead_letter_named_by_its_seq_is_retried_in_its_own_destination(box: Outbox) -> None:
    here = put(box, HERE, state="dead", settled_at=1)
    there = put(box, THERE, state="dead", settled_at=1)

    assert retry_dead(box.engine, there) == 1
    assert [box.state(seq) for seq in (here, there)] == ["dead", "pending"]


def test_the_limit_counts_one_destination(box: Outbox) -> None:
    put(box, THERE)
    limited = replace(box, engine=box.open(max_unsettled=1))

    put(limited, HERE)
    with pytest.raises(OutboxFullError):
        put(limited, HERE)

    assert [row["destination"] for row in box.rows()] == ["assistant", "gateway"]


def test_a_page_for_the_other_destination_is_stored_as_such(box: Outbox) -> None:
    with Session(box.engine) as session, session.begin():
        pages = [(key, 1, "{}") for key in "ab"]
        enqueue_many(session, session.connection(), THERE, topic=TOPIC, rows=pages, origin=Origin.REPLAY)

    with reading(box.engine) as connection:
        found = statements.pending(connection, THERE, range(SHARDS), 10, 10**6).messages
    assert [one.key for one in found] == ["a", "b"]
    assert box.pending() == []
