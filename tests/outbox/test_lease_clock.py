"""When a lease runs out, and by whose clock: the relay's on SQLite, the server's on PostgreSQL."""

from datetime import timedelta

import pytest
from freezegun import freeze_time

from outbox import SHARDS, statements, writing
from outbox.leases import LONGEST_LEASE, Leases
from outbox.message import Destination
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox
from tests.outbox.test_leases import LEASE, held, relay, settle_down
from tests.outbox.threads import start_behind_a_lock

ALL = list(range(SHARDS))
A_STEP = timedelta(seconds=3)


def let_pass(box: Outbox, time: timedelta) -> None:
    """Makes all that was stored that much older."""
    ms = time // timedelta(milliseconds=1)
    write(box.engine, "UPDATE outbox_leases SET expires_at = expires_at - :ms", ms=ms)
    write(box.engine, "UPDATE outbox_relays SET seen_at = seen_at - :ms", ms=ms)


def test_a_lapsed_shard_is_taken_and_reported_by_its_last_owner(box: Outbox) -> None:
    first, second, third = (relay(box, name) for name in "abc")
    settle_down(first, second)
    shards = [sorted(one.tokens) for one in (first, second)]
    let_pass(box, timedelta(seconds=31))

    lapsed = third.balance()

    assert sorted(lapsed) == sorted(shards)
    assert held(third) == [SHARDS]


def test_a_shard_is_not_taken_before_it_lapses(box: Outbox) -> None:
    first, second = Leases(box.engine, LONGEST_LEASE, Destination.GATEWAY, owner="a"), relay(box, "b")
    first.balance()
    # Seen too long ago to have a share, yet its leases are its own to their end.
    write(box.engine, "UPDATE outbox_relays SET seen_at = 0")
    early = second.balance()
    let_pass(box, LONGEST_LEASE)

    late = second.balance()

    assert early == []
    assert [sorted(shards) for shards in late] == [ALL]


@pytest.mark.parametrize("length", [LEASE, LONGEST_LEASE], ids=["of 10 s", "of 60 s"])
def test_a_lease_that_ends_later_than_its_own_length_was_written_before_the_clock_stepped_back(
    box: Outbox, length: timedelta
) -> None:
    first, second = Leases(box.engine, length, Destination.GATEWAY, owner="a"), relay(box, "b")
    first.balance()
    # So that only the leases can tell that the first lives.
    write(box.engine, "DELETE FROM outbox_relays")
    let_pass(box, A_STEP)
    early = second.balance()
    let_pass(box, -2 * A_STEP)

    lapsed = second.balance()

    assert early == []
    assert [sorted(shards) for shards in lapsed] == [ALL]
    assert held(second) == [SHARDS]


def test_renewing_extends_what_is_held_and_nothing_else(box: Outbox) -> None:
    first, second = relay(box, "a"), relay(box, "b")
    settle_down(first, second)
    others = "SELECT * FROM outbox_leases WHERE owner = 'b' ORDER BY shard"
    let_pass(box, timedelta(seconds=4))
    before = rows(box.engine, others)

    first.renew()

    left = "SELECT DISTINCT expires_at - seen_at AS ms FROM outbox_leases, outbox_relays WHERE owner = 'a' AND id = 'a'"
    assert rows(box.engine, left) == [{"ms": 10_000}]
    assert rows(box.engine, others) == before
    assert held(first, second) == [32, 32]


@pytest.mark.only("sqlite", because="the clock of a PostgreSQL server cannot be frozen")
def test_a_shard_is_free_at_the_very_end_of_its_lease(box: Outbox) -> None:
    with freeze_time("2024-01-01") as clock:
        first, second = relay(box, "a"), relay(box, "b")
        first.balance()
        write(box.engine, "UPDATE outbox_relays SET seen_at = 0")
        clock.tick(LEASE - timedelta(milliseconds=1))
        early = second.balance()
        clock.tick(timedelta(milliseconds=1))
        late = second.balance()

    assert early == []
    assert [sorted(shards) for shards in late] == [ALL]


@pytest.mark.only("sqlite", because="the clock of a PostgreSQL server cannot be frozen")
def test_a_lease_of_the_longest_length_is_not_taken_for_one_of_a_clock_that_stepped_back(box: Outbox) -> None:
    with freeze_time("2024-01-01"):
        Leases(box.engine, LONGEST_LEASE, Destination.GATEWAY, owner="a").balance()
        write(box.engine, "DELETE FROM outbox_relays")

        assert relay(box, "b").balance() == []


@pytest.mark.only("postgresql", because="relays of a SQLite file share one machine and its clock")
@pytest.mark.parametrize("wrong", ["2024-01-01", "2100-01-01"], ids=["behind", "ahead"])
def test_a_relay_whose_clock_is_wrong_judges_and_writes_leases_by_the_servers(box: Outbox, wrong: str) -> None:
    right, other = relay(box, "a"), relay(box, "b")
    right.balance()

    with freeze_time(wrong):
        other.renew()
        taken_early = other.balance()
        right.release()
        other.balance()
        other.renew()

    with writing(box.engine) as connection:
        now = statements.lease_clock(connection)
    ends = {row["expires_at"] for row in rows(box.engine, "SELECT expires_at FROM outbox_leases WHERE owner = 'b'")}
    assert taken_early == []
    assert held(other) == [SHARDS]
    assert max(ends) - now <= LEASE // timedelta(milliseconds=1)
    assert min(ends) > now


@pytest.mark.only("postgresql", because="SQLite asks the clock of the relay, which stands still in no transaction")
def test_a_lease_is_counted_from_when_it_is_taken_not_from_when_its_relay_began_to_wait(box: Outbox) -> None:
    leases = relay(box, "a")
    with writing(box.engine) as connection:
        statements.lock_leases(connection)
        balanced = start_behind_a_lock(box.engine, leases.balance)
        waited_at = statements.lease_clock(connection)
        while (now := statements.lease_clock(connection)) == waited_at:
            pass
    balanced.result()

    (ends,) = rows(box.engine, "SELECT min(expires_at) AS at FROM outbox_leases")
    assert ends["at"] >= now + LEASE // timedelta(milliseconds=1)
