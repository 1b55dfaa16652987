"""Shards are shared evenly and change hands only when they are free, given up, or left to lapse."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event

from outbox import SHARDS, reading, statements
from outbox.leases import LONGEST_LEASE, Leases, fair_share
from outbox.message import Destination
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox
from tests.system.forging import insert_unchecked

LEASE = timedelta(seconds=10)
GONE_PID = 2**22 + 1
"""Above the largest pid that Linux gives."""


def relay(box: Outbox, name: str) -> Leases:
    return Leases(box.engine, LEASE, Destination.GATEWAY, owner=name)


def held(*relays: Leases) -> list[int]:
    return [len(one.tokens) for one in relays]


def settle_down(*relays: Leases) -> list[list[int]]:
    """Every relay shows itself, then each balances twice: the second finds what the first gave up."""
    for one in relays:
        one.renew()
    return [lapsed for _ in range(2) for one in relays for lapsed in one.balance()]


@given(st.sets(st.text(min_size=1), min_size=1, max_size=10))
def test_fair_shares_add_up_to_all_shards_and_differ_by_one_at_most(names: set[str]) -> None:
    relays = sorted(names)

    shares = [fair_share(name, relays) for name in relays]

    assert sum(shares) == SHARDS
    assert max(shares) - min(shares) <= 1


def test_a_lone_relay_takes_every_shard_each_under_a_token_of_its_own(box: Outbox) -> None:
    alone = relay(box, "a")

    assert alone.balance() == []

    assert sorted(alone.tokens) == list(range(SHARDS))
    assert len(set(alone.tokens.values())) == SHARDS
    assert {(row["shard"], row["token"]) for row in rows(box.engine, "SELECT * FROM outbox_leases")} == set(
        alone.tokens.items()
    )


@pytest.mark.parametrize("number", [2, 3, 5, 10])
def test_relays_that_join_end_with_even_shares_and_no_shard_twice(box: Outbox, number: int) -> None:
    relays = [relay(box, f"relay-{n}") for n in range(number)]
    relays[0].balance()

    lapsed = settle_down(*relays)

    assert lapsed == []
    assert sorted(shard for one in relays for shard in one.tokens) == list(range(SHARDS))
    assert max(held(*relays)) - min(held(*relays)) <= 1


def test_a_second_relay_gets_half(box: Outbox) -> None:
    first, second = relay(box, "a"), relay(box, "b")
    first.balance()

    settle_down(first, second)

    assert held(first, second) == [32, 32]


def test_balanced_relays_write_nothing(box: Outbox) -> None:
    first, second = relay(box, "a"), relay(box, "b")
    settle_down(first, second)
    before = rows(box.engine, "SELECT * FROM outbox_leases, outbox_relays")

    lapsed = [first.balance(), second.balance()]

    assert lapsed == [[], []]
    assert rows(box.engine, "SELECT * FROM outbox_leases, outbox_relays") == before


def test_a_released_shard_is_taken_and_not_reported_as_lapsed(box: Outbox) -> None:
    first, second = relay(box, "a"), relay(box, "b")
    settle_down(first, second)

    first.release()

    assert second.balance() == []
    assert held(first, second) == [0, 64]


def test_the_leases_of_a_relay_whose_process_is_gone_are_taken_at_once(box: Outbox) -> None:
    relay(box, "killed").balance()
    write(box.engine, "UPDATE outbox_relays SET pid = :pid", pid=GONE_PID)
    second = relay(box, "b")

    lapsed = second.balance()

    assert [sorted(shards) for shards in lapsed] == [list(range(SHARDS))]
    assert held(second) == [64]


def test_a_pid_of_another_host_says_nothing(box: Outbox) -> None:
    relay(box, "elsewhere").balance()
    write(box.engine, "UPDATE outbox_relays SET pid = :pid, host = 'another'", pid=GONE_PID)

    assert relay(box, "b").balance() == []


def test_leases_of_its_own_name_with_tokens_it_does_not_hold_are_taken_at_once(box: Outbox) -> None:
    first = relay(box, "a")
    first.balance()
    # As where the database was restored from a copy of a minute ago, on which this relay had other tokens.
    write(box.engine, "UPDATE outbox_leases SET token = 'of then ' || shard")
    first.renew()
    assert held(first) == [0]

    lapsed = first.balance()

    assert [sorted(shards) for shards in lapsed] == [list(range(SHARDS))]
    assert held(first) == [SHARDS]


def test_renewing_a_lease_that_another_took_gives_it_up_and_leaves_it_to_the_other(box: Outbox) -> None:
    first = relay(box, "a")
    first.balance()
    write(box.engine, "UPDATE outbox_leases SET owner = 'b', token = 'taken' || shard, expires_at = 5 WHERE shard < 3")

    first.renew()

    assert sorted(first.tokens) == list(range(3, SHARDS))
    assert (
        rows(box.engine, "SELECT owner, expires_at FROM outbox_leases WHERE shard < 3")
        == [{"owner": "b", "expires_at": 5}] * 3
    )


def test_what_is_taken_while_a_renewal_ends_stays_held(box: Outbox) -> None:
    # The renewal runs in another thread: here the balance comes between its commit and its last step.
    leases = relay(box, "a")
    balances: list[Callable[[], object]] = [leases.balance]

    def balance_once(*_: object) -> None:
        if balances:
            balances.pop()()

    event.listen(box.engine, "checkin", balance_once)
    leases.renew()

    assert held(leases) == [64]


@pytest.mark.parametrize("length", [timedelta(0), timedelta(seconds=-1), LONGEST_LEASE + timedelta(milliseconds=1)])
def test_a_lease_of_a_length_that_others_would_not_believe_is_refused(box: Outbox, length: timedelta) -> None:
    with pytest.raises(ValueError, match=r"a lease must be longer than 0 and at most 0:01:00, got"):
        Leases(box.engine, length, Destination.GATEWAY)


def test_a_released_relay_frees_only_what_is_still_its_own(box: Outbox) -> None:
    first = relay(box, "a")
    first.balance()
    write(box.engine, "UPDATE outbox_leases SET owner = 'b', token = 'taken' WHERE shard = 0")

    first.release()

    with reading(box.engine) as connection:
        assert [(one.shard, one.owner) for one in statements.leases(connection, Destination.GATEWAY)] == [(0, "b")]


@pytest.mark.parametrize(("expires_at", "length_ms"), [(2**61, 2**62), (2**53, 2**53), (2**61, 0), (2**61, -(2**62))])
def test_no_lease_stands_longer_than_the_longest_that_a_relay_takes_whatever_its_row_says(
    box: Outbox, expires_at: int, length_ms: int
) -> None:
    forged = {"destination": "'gateway'", "owner": "'x'", "expires_at": str(expires_at), "length_ms": str(length_ms)}
    for shard in range(SHARDS):
        insert_unchecked(box.engine, "outbox_leases", forged | {"shard": str(shard), "token": f"'t{shard}'"})
    alone = relay(box, "a")
    alone.balance()
    assert sorted(alone.tokens) == list(range(SHARDS))
