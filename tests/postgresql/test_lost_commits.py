"""The connection cut while a COMMIT, or the answer to it, is on its way: P12, and P4, P5, P7 with it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

import pytest

from tests.conftest import Stores
from tests.postgresql.protocol import socket_of, through
from tests.postgresql.proxy import Fate, proxy
from tests.postgresql.unharmed import assert_unharmed, busy_daemon, watch_closing
from tests.postgresql.waiting import until_drained
from tests.system.processes import running_relay

PROBING = {"RELAY_PROBE_LONGEST": "0.2", "RELAY_BATCH_SIZE": "20"}
CUTS = 6
SETTLING, LEASING = (b"UPDATE outbox_messages",), (b"INSERT INTO outbox_leases",)
MIRRORING = (b"INSERT INTO ingress_invites", b"UPDATE ingress_invites")


def has(statements: Sequence[bytes], writes: Sequence[bytes]) -> bool:
    return any(write in statement for write in writes for statement in statements)


@pytest.mark.parametrize("fate", [Fate.UNANSWERED, Fate.LOST], ids=lambda one: one.name.lower())
def test_p04_p05_p07_p12_commits_cut_off_lose_reopen_and_burn_nothing(stores: Stores, fate: Fate) -> None:
    """The first and then every other one, of the gateway's transactions and of those that settle."""
    watch_closing(stores)
    seen = Counter[str]()

    def judge(statements: Sequence[bytes]) -> Fate:
        kind = "settling" if has(statements, SETTLING) else "mirroring" if has(statements, MIRRORING) else ""
        seen[kind] += 1
        return fate if kind and seen[kind] % 2 else Fate.PASSES

    # Both databases are on one server.
    with proxy(socket_of(stores.source_url), judge) as (between, port):
        cut_off = replace(
            stores, source_url=through(stores.source_url, port), mirror_url=through(stores.mirror_url, port)
        )
        with running_relay(cut_off, **PROBING) as started:
            with busy_daemon(stores):
                while min(seen["settling"], seen["mirroring"]) < 2 * CUTS:
                    started.wait_for("delivered")
            until_drained(stores, started)
            assert started.terminate() == 0

    assert between.cut >= 2 * CUTS
    assert_unharmed(stores, started)


def test_p07_p12_a_relay_that_lives_through_lost_commits_is_not_counted_as_one_that_died(stores: Stores) -> None:
    """It takes its own leases, of which it was not told, for those of a relay that died with messages in hand. Each is
    then tried alone, and counted ahead of that."""
    watch_closing(stores)
    leases, settlings = count(), count()

    def judge(statements: Sequence[bytes]) -> Fate:
        if has(statements, LEASING):
            return Fate.PASSES if next(leases) else Fate.UNANSWERED
        # Counting the attempt passes, settling it is lost, seven times. Of five dead relays a message dies.
        number = next(settlings) if has(statements, SETTLING) else 0
        return Fate.LOST if number % 2 and number < 14 else Fate.PASSES

    stores.revoke(stores.create().invite.id)
    with proxy(socket_of(stores.source_url), judge) as (between, port):
        cut_off = replace(stores, source_url=through(stores.source_url, port))
        with running_relay(cut_off, RELAY_LEASE="1", **PROBING) as started:
            started.wait_for("took_over_lapsed_shards")
            until_drained(stores, started)
            assert started.terminate() == 0

    assert_unharmed(stores, started)
    assert between.cut == 8
