"""A server that crashes, drops its connections, takes no writes or is gone, while a relay drains: P2, P4, P5, P7."""

import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import Stores
from tests.databases import end_connections
from tests.postgres import Cluster
from tests.postgresql.servers import Side, read_only, stopped, stores_with
from tests.postgresql.unharmed import assert_unharmed, busy_daemon, watch_closing
from tests.postgresql.waiting import go_on, stop, until_drained
from tests.system.processes import running_relay

CRASHES, CUTS = 20, 10
PROBING = {"RELAY_PROBE_LONGEST": "0.2", "RELAY_BATCH_SIZE": "20"}
TROUBLE = {"source": "outbox_unreachable", "mirror": "gateway_unreachable"}

Fault = Callable[[Cluster], AbstractContextManager[None]]


def test_p04_p05_p07_a_server_of_both_stores_that_crashes_again_and_again_loses_nothing(
    own_server: Cluster, tmp_path: Path
) -> None:
    with stores_with(own_server, tmp_path, "source", "mirror") as stores:
        watch_closing(stores)
        with running_relay(stores, **PROBING) as started:
            with busy_daemon(stores) as daemon:
                for _ in range(CRASHES):
                    started.wait_until_delivered(stores.create().invite.id)
                    own_server.stop(signal.SIGQUIT)
                    own_server.start()
            until_drained(stores, started)
            assert started.terminate() == 0

        assert daemon["done"] > CRASHES
        assert daemon["refused"] > 0
        assert_unharmed(stores, started)


def test_p04_p05_p07_connections_ended_by_the_server_again_and_again_lose_nothing(stores: Stores) -> None:
    watch_closing(stores)
    with running_relay(stores, **PROBING) as started:
        with busy_daemon(stores) as daemon:
            for number in range(CUTS):
                started.wait_until_delivered(stores.create().invite.id)
                end_connections(stores.mirror_url if number % 2 else stores.source_url)
        until_drained(stores, started)
        assert started.terminate() == 0

    assert daemon["done"] > CUTS
    assert_unharmed(stores, started)


@pytest.mark.parametrize("side", ["source", "mirror"])
def test_p04_p05_p07_a_server_that_is_read_only_or_gone_is_an_outage_that_ends_by_itself(
    own_server: Cluster, tmp_path: Path, side: Side
) -> None:
    faults: list[Fault] = [read_only, stopped]
    with stores_with(own_server, tmp_path, side) as stores:
        watch_closing(stores)
        with running_relay(stores, **PROBING) as started:
            with busy_daemon(stores) as daemon:
                started.wait_until_delivered(stores.create().invite.id)
                for fault in faults:
                    # What it finds when it goes on was committed before the fault.
                    stop(started)
                    waiting = [stores.create().invite.id for _ in range(3)]
                    with fault(own_server):
                        go_on(started)
                        for _ in range(5):
                            started.wait_for(TROUBLE[side])
                    started.wait_until_delivered(*waiting)
            until_drained(stores, started)
            assert started.terminate() == 0

        assert (daemon["refused"] > 0) == (side == "source"), "the daemon depends on its own server only"
        assert_unharmed(stores, started)


def test_p02_with_the_gateways_server_gone_the_daemon_changes_invites_as_ever(
    own_server: Cluster, tmp_path: Path
) -> None:
    with stores_with(own_server, tmp_path, "mirror") as stores:
        with stopped(own_server):
            used, revoked = stores.create().invite, stores.create().invite
            assert stores.use(used.id) is not None
            assert stores.revoke(revoked.id) is not None

        assert stores.states() == ["pending"] * 4
