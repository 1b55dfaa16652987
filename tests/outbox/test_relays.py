"""Which relays live: those that showed themselves lately and whose process, where it can be looked up, exists."""

import os
import socket

import pytest

from outbox import SHARDS, reading, statements
from outbox.leases import Leases, live_relays
from outbox.message import Destination
from outbox.processes import host, started_ticks
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox
from tests.outbox.test_leases import GONE_PID, LEASE, relay


def sign_on(box: Outbox, name: str, *, at_host: str, pid: int, seen_at: int) -> None:
    write(
        box.engine,
        "INSERT INTO outbox_relays (id, destination, host, host_name, pid, version, gateway, started_at, seen_at)"
        " VALUES (:id, 'gateway', :host, 'somewhere', :pid, '0', '', :seen_at, :seen_at)",
        id=name,
        host=at_host,
        pid=pid,
        seen_at=seen_at,
    )


def test_a_relay_signs_on_when_it_renews_and_off_when_it_releases(box: Outbox) -> None:
    leases = relay(box, "a")
    leases.renew()
    signed_on = rows(box.engine, "SELECT id, host, pid FROM outbox_relays")
    leases.release()

    assert signed_on == [{"id": "a", "host": host(), "pid": os.getpid()}]
    assert rows(box.engine, "SELECT * FROM outbox_relays") == []


def test_a_relay_long_unseen_is_forgotten(box: Outbox) -> None:
    for name, minutes in (("old", 61), ("away", 59)):
        relay(box, name).renew()
        write(
            box.engine,
            "UPDATE outbox_relays SET seen_at = seen_at - :ms WHERE id = :name",
            ms=minutes * 60_000,
            name=name,
        )

    relay(box, "new").renew()

    assert rows(box.engine, "SELECT id FROM outbox_relays ORDER BY id") == [{"id": "away"}, {"id": "new"}]


@pytest.mark.parametrize(
    ("at_host", "pid", "seen_seconds_ago", "lives"),
    [
        (host(), os.getpid(), 15, True),
        (host(), os.getpid(), 15.001, False),
        (host(), os.getpid(), -15, True),
        (host(), os.getpid(), -15.001, False),
        (host(), GONE_PID, 0, False),
        ("another", GONE_PID, 0, True),
        (host(), 1, 0, True),
    ],
    # Named: a pid in a test's name would differ between the processes of pytest-xdist.
    ids=["seen 15 s ago", "before", "15 s ahead", "further ahead", "killed", "on another host", "alive and not ours"],
)
def test_a_relay_lives_if_seen_lately_and_its_process_where_it_can_be_looked_up_exists(
    box: Outbox, at_host: str, pid: int, seen_seconds_ago: float, lives: bool
) -> None:
    now = 1_700_000_000_000
    sign_on(box, "a", at_host=at_host, pid=pid, seen_at=now - int(seen_seconds_ago * 1000))

    with reading(box.engine) as connection:
        assert [one.id for one in live_relays(connection, Destination.GATEWAY, now)] == (["a"] if lives else [])


def test_what_a_relay_says_of_itself_is_written_when_it_signs_on(box: Outbox) -> None:
    leases = Leases(box.engine, LEASE, Destination.GATEWAY, owner="a", version="0.2.0", gateway="sqlite:///g.db")
    leases.renew()

    with reading(box.engine) as connection:
        (found,) = live_relays(connection, Destination.GATEWAY, statements.lease_clock(connection))
    assert (found.version, found.gateway, found.host_name) == ("0.2.0", "sqlite:///g.db", socket.gethostname())
    assert (found.pid_started, found.last_error, found.down_since) == (started_ticks(os.getpid()), None, None)


def test_what_a_relay_notes_is_written_with_its_next_renewal_and_not_before(box: Outbox) -> None:
    leases = relay(box, "a")
    leases.renew()
    (signed_on,) = rows(box.engine, "SELECT * FROM outbox_relays")

    leases.note(last_error="timed out", down_since=5)
    leases.note(last_delivered_at=7)
    (not_yet,) = rows(box.engine, "SELECT * FROM outbox_relays")
    leases.renew()
    (noted,) = rows(box.engine, "SELECT * FROM outbox_relays")
    leases.note(down_since=None)
    leases.renew()
    (up_again,) = rows(box.engine, "SELECT * FROM outbox_relays")

    assert not_yet == signed_on
    assert (noted["last_error"], noted["down_since"], noted["last_delivered_at"]) == ("timed out", 5, 7)
    assert (up_again["last_error"], up_again["down_since"], up_again["last_delivered_at"]) == ("timed out", None, 7)
    assert noted["started_at"] == signed_on["started_at"]


def test_two_machines_of_one_name_do_not_take_each_others_relays_for_killed(box: Outbox) -> None:
    relay(box, "elsewhere").balance()
    # The initial namespace of every Linux, and a pid that is free here.
    host_of_the_other = f"{socket.gethostname()} pid:[4026531836]"
    write(box.engine, "UPDATE outbox_relays SET host = :host, pid = :pid", host=host_of_the_other, pid=GONE_PID)
    second = relay(box, "b")

    assert second.balance() == []
    assert second.tokens == {}


def test_a_relay_whose_pid_was_given_to_another_process_is_gone(box: Outbox) -> None:
    relay(box, "killed").balance()
    write(box.engine, "UPDATE outbox_relays SET pid_started = pid_started - 1")
    second = relay(box, "b")

    assert [sorted(shards) for shards in second.balance()] == [list(range(SHARDS))]
