"""A relay whose drain hangs loses its shards to one that works; one that waits for a slow gateway keeps them."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest

from outbox import Destination
from outbox.leases import LONGEST_LEASE, Leases
from outbox.wakeups.wake import listen
from relay.logs import configure_logs
from relay.open import open_gateway, open_source
from relay.periodic import schedule
from relay.settings import Settings
from relay.worker import Worker
from tests.conftest import Stores, rows
from tests.postgresql.waiting import until, until_settled
from tests.relay.rig import Meddling, settings_of
from tests.system.processes import DEADLINE_SECONDS, FORKSERVER, running_relay

# No shorter: a machine that stands still for as long would lose the leases of those that work as well.
LEASE = timedelta(seconds=6)
SECONDS = "6"
# One that awaits an answer of SQLite is given 5 s, so its lease must be much shorter; nobody else is there to take it.
SHORT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A relay in a process of its own that stands still at one place until it is let go."""

    process: BaseProcess
    stands: Event
    let_go: Event
    log: Path

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.log.read_text().splitlines()) if line["event"] == name]

    def end(self) -> None:
        self.process.terminate()
        self.process.join(DEADLINE_SECONDS)
        assert self.process.exitcode == 0


@contextmanager
def stuck(stores: Stores, where: str, lease: timedelta = LEASE) -> Iterator[Stuck]:
    """``where``: after settling its first batch, or asking the gateway."""
    stands, let_go, log = FORKSERVER.Event(), FORKSERVER.Event(), stores.folder / "stuck.log"
    given = (stores.source_url, stores.mirror_url, lease, where, stands, let_go, log)
    process = FORKSERVER.Process(target=_relay, args=given)
    process.start()
    try:
        yield Stuck(process, stands, let_go, log)
    finally:
        let_go.set()
        process.kill()
        process.join()


def _relay(
    source_url: str, mirror_url: str, lease: timedelta, where: str, stands: Event, let_go: Event, log: Path
) -> None:
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT, 0o600), 2)
    configure_logs("json")
    settings = Settings(assistant_db=source_url, gateway=mirror_url, lease=lease)

    def stand(_: object) -> None:
        stands.set()
        let_go.wait()

    def nothing(_: object) -> None: ...

    gateway = Meddling(open_gateway(settings), before=stand if where == "gateway" else nothing)
    Worker(open_source(settings), gateway, settings, on_settled=stand if where == "loop" else nothing).run()


def test_a_relay_whose_loop_hangs_loses_its_shards_and_joins_in_again_once_it_goes_on(stores: Stores) -> None:
    first = stores.create().invite.id
    with stuck(stores, "loop") as hung, running_relay(stores, RELAY_LEASE=SECONDS) as other:
        assert hung.stands.wait(DEADLINE_SECONDS)
        ids = [stores.create().invite.id for _ in range(40)]
        until_settled(stores, *ids)
        assert other.events("took_over_lapsed_shards") or other.wait_for("took_over_lapsed_shards")
        hung.let_go.set()
        query = "SELECT count(DISTINCT owner) AS relays FROM outbox_leases"
        until("both have shards", lambda: rows(stores.source, query) == [{"relays": 2}])
        more = [stores.create().invite.id for _ in range(40)]
        until_settled(stores, *more)
        hung.end()
        assert other.terminate() == 0
    assert stores.mirrored(first) is not None
    assert set(stores.states()) == {"delivered"}
    assert len(hung.events("drain_makes_no_progress")) == len(hung.events("drain_goes_on")) == 1
    assert hung.events("lease_lost") == []


def test_a_relay_that_awaits_a_slow_gateway_for_longer_than_a_lease_keeps_its_shards(stores: Stores) -> None:
    invite = stores.create().invite.id
    with stuck(stores, "gateway", SHORT) as waiting:
        assert waiting.stands.wait(DEADLINE_SECONDS)
        before, began = tokens(stores), first_end(stores)
        until("two leases later", lambda: first_end(stores) > began + 2 * SHORT / timedelta(milliseconds=1))
        assert tokens(stores) == before
        waiting.let_go.set()
        until_settled(stores, invite)
        waiting.end()
    assert waiting.events("drain_makes_no_progress") == []


def tokens(stores: Stores) -> list[dict[str, Any]]:
    return rows(stores.source, "SELECT shard, token FROM outbox_leases ORDER BY shard")


def first_end(stores: Stores) -> int:
    """When the first lease of all runs out; 0 while there is none."""
    query = "SELECT coalesce(min(expires_at), 0) AS first FROM outbox_leases"
    found: int = rows(stores.source, query)[0]["first"]
    return found


@pytest.mark.only("sqlite", because="only the waiting is tested")
def test_a_relay_at_rest_comes_round_within_its_lease_however_rarely_it_polls(stores: Stores) -> None:
    settings = settings_of(stores, lease=LEASE, poll_interval=timedelta(days=1))
    worker = Worker(stores.source, open_gateway(settings), settings)
    stop, leases = threading.Event(), Leases(stores.source, LEASE, Destination.GATEWAY)
    # Nobody wakes it.
    periodic = schedule(settings, stores.source, leases, lambda _: None, stop)
    periodic.start()
    came_round = threading.Event()

    def rest() -> None:
        worker._rest(listener, periodic, settings.poll_interval.total_seconds())
        came_round.set()

    with listen(stores.source, "ear") as listener:
        resting = threading.Thread(target=rest)
        resting.start()
        # Otherwise a day.
        in_time = came_round.wait(LONGEST_LEASE.total_seconds())
        listener.set()
        resting.join()
    periodic.shutdown()
    assert in_time
