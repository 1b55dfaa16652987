"""A message whose transaction commits after later ones were delivered: a seq is given out before the commit."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

import assistant_store
from assistant_store.invites.replay import Selection, replay_page
from outbox import Origin
from outbox.pages import START
from tests.conftest import CONTACT, Stores, rows
from tests.postgresql.waiting import go_on, in_list, stop, until
from tests.system.processes import RelayProcess, relay, running_relay

# Found by the wake-up or, had the relay passed it over, by what it reads from the start when it renews its leases.
ONLY_WOKEN = {"RELAY_POLL_INTERVAL": "3600", "RELAY_LEASE": "60"}
ROUNDS, AGAIN = 3, 10


@contextmanager
def enqueued_late(stores: Stores, started: RelayProcess, origin: Origin) -> Iterator[str]:
    """An invite whose message is enqueued now and committed in the end; by a replay that has read it as active."""
    known = stores.create().invite.id if origin is Origin.REPLAY else ""
    if known:
        # A replay enqueues nothing of which the same waits already.
        started.wait_until_delivered(known)
    with Session(stores.source) as session, session.begin():
        if origin is Origin.LIVE:
            known = assistant_store.create_invite(session, source_channel="telegram", contact_id=CONTACT).invite.id
        else:
            replay_page(session, Selection(ids=[known]), place=START, limit=1)
            stores.revoke(known)
        yield known


def deliver_later_ones(stores: Stores, started: RelayProcess) -> None:
    """For as long as the relay takes to see that what it settled is settled for good."""
    since = time.monotonic()
    while time.monotonic() < since + 0.4:
        started.wait_until_delivered(stores.create().invite.id)


def last_renewal(stores: Stores) -> int:
    (relay,) = rows(stores.source, "SELECT seen_at FROM outbox_relays")
    seen_at: int = relay["seen_at"]
    return seen_at


def test_p04_p05_a_message_committed_after_later_ones_were_delivered_is_delivered_at_once(stores: Stores) -> None:
    at_once: dict[Origin, list[bool]] = {origin: [] for origin in Origin}
    late: dict[Origin, list[str]] = {origin: [] for origin in Origin}
    with running_relay(stores, **ONLY_WOKEN) as started:
        for origin in Origin:
            # Again where it renewed its leases just then, or was kept from running.
            while sum(at_once[origin]) < ROUNDS:
                assert len(at_once[origin]) < AGAIN, at_once
                with enqueued_late(stores, started, origin) as invite:
                    deliver_later_ones(stores, started)
                    renewed_at = last_renewal(stores)
                started.wait_until_delivered(invite)
                at_once[origin].append(last_renewal(stores) == renewed_at)
                late[origin].append(invite)
        assert started.terminate() == 0

    assert relay(stores, "verify").code == 0
    for origin, status in ((Origin.LIVE, "active"), (Origin.REPLAY, "revoked")):
        among = in_list(late[origin])
        messages = stores.messages(f"origin = '{origin}' AND key IN {among}")
        assert [row["state"] for row in messages] == ["delivered"] * len(late[origin])
        mirrored = rows(stores.mirror, f"SELECT DISTINCT status FROM ingress_invites WHERE id IN {among}")
        assert mirrored == [{"status": status}]


def test_p04_what_commits_late_is_counted_by_status_and_never_pruned_before_it_is_delivered(stores: Stores) -> None:
    pruning = {"RELAY_RETENTION": "0.001", "RELAY_PRUNE_INTERVAL": "0.1"}
    with running_relay(stores, **ONLY_WOKEN, **pruning) as started:
        with enqueued_late(stores, started, Origin.LIVE) as invite:
            deliver_later_ones(stores, started)
            until("all later ones are pruned", lambda: not stores.messages())
            stop(started)
        counted = relay(stores, "status", "--json").json
        assert relay(stores, "prune", "--retention", "0s").code == 0
        assert [(row["key"], row["state"]) for row in stores.messages()] == [(invite, "pending")]
        go_on(started)
        started.wait_until_delivered(invite)
        until("it is pruned as well", lambda: not stores.messages())
        assert started.terminate() == 0

    assert (counted["pending"], counted["delivered"]) == (1, 0)
    assert relay(stores, "verify").code == 0
