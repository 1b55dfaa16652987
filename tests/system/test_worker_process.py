"""`relay run` as an operator meets it: stopped, woken, left alone, doubled, and its files moved under it."""

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Stores, rows, write
from tests.databases import plain_role
from tests.relay.outages import gone, missing
from tests.relay.rig import create_many
from tests.system.freezing import freeze
from tests.system.processes import relay, running_relay, start_relay

NEVER = "3600"
OFTEN = {"RELAY_POLL_INTERVAL": "0.1", "RELAY_PROBE_LONGEST": "0.2"}


def test_sigterm_ends_it_with_0_its_leases_released_and_its_batch_settled(stores: Stores) -> None:
    with running_relay(stores) as worker:
        invite = stores.create().invite.id
        worker.wait_until_delivered(invite)
        assert worker.terminate() == 0
        assert worker.events("stopped")
    assert rows(stores.source, "SELECT * FROM outbox_leases") == []
    assert rows(stores.source, "SELECT * FROM outbox_relays") == []
    assert stores.states() == ["delivered"]


def test_sigterm_in_the_middle_of_a_heap_settles_what_was_delivered_and_releases(stores: Stores) -> None:
    create_many(stores, 600)
    with running_relay(stores, RELAY_BATCH_SIZE="20") as worker:
        worker.wait_for("delivered")
        assert worker.terminate() == 0
    mirrored = {row["id"] for row in rows(stores.mirror, "SELECT id FROM ingress_invites")}
    settled = {row["key"] for row in stores.messages("state = 'delivered'")}
    assert mirrored == settled
    assert 0 < len(settled) < 600
    assert rows(stores.source, "SELECT * FROM outbox_leases") == []


def test_ctrl_c_ends_it_as_sigterm_does(stores: Stores) -> None:
    with running_relay(stores) as worker:
        worker.process.send_signal(signal.SIGINT)
        assert worker.join() == 0
    assert rows(stores.source, "SELECT * FROM outbox_leases") == []


@contextmanager
def sigint_ignored() -> Iterator[None]:
    """By what is started meanwhile, as by what a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_ctrl_c_that_was_ignored_before_it_started_stays_ignored(stores: Stores) -> None:
    with sigint_ignored():
        started = start_relay(stores)
    with started as worker:
        worker.wait_for("started")
        worker.process.send_signal(signal.SIGINT)
        worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0


def test_a_gateway_keeps_ignoring_a_ctrl_c_that_was_ignored_before_it_started(stores: Stores) -> None:
    listen = f"unix://{stores.folder / 'served' / 'gateway.sock'}"
    with sigint_ignored():
        started = start_relay(stores, "gateway", "--listen", listen, "--db", stores.mirror_url)
    with started as serving:
        serving.wait_for("listening")
        serving.process.send_signal(signal.SIGINT)
        assert relay(stores, "--gateway", listen, "status").code == 0
        assert serving.terminate() == 0


def test_a_wake_up_starts_a_drain_without_waiting_for_the_poll(stores: Stores) -> None:
    with running_relay(stores, RELAY_POLL_INTERVAL=NEVER, RELAY_LEASE="60") as worker:
        for _ in range(3):
            worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0


def test_a_message_whose_wake_up_was_lost_is_found_by_the_poll(stores: Stores) -> None:
    with running_relay(stores, **OFTEN) as worker:
        if stores.source.dialect.name == "sqlite":
            shutil.rmtree(stores.folder / "assistant.db-wake")
        else:
            listens = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"
            assert rows(stores.source, f"SELECT pg_terminate_backend(pid, 60000) AS ended {listens}") == [
                {"ended": True}
            ]
        worker.wait_until_delivered(stores.create().invite.id)


@pytest.mark.only("sqlite", because="a server wakes without a file; the next test is PostgreSQL's")
def test_a_relay_that_cannot_be_woken_says_so_and_polls(stores: Stores) -> None:
    (stores.folder / "assistant.db-wake").write_text("not a folder")
    with start_relay(stores, **OFTEN) as worker:
        worker.wait_for("no_wake_ups")
        worker.wait_for("started")
        worker.wait_until_delivered(stores.create().invite.id)


@pytest.mark.only("postgresql", because="SQLite has no roles and no limit of connections")
def test_a_relay_of_a_plain_role_that_may_not_connect_twice_cannot_be_woken_and_polls(stores: Stores) -> None:
    with (
        plain_role(stores.source_url, connections=1) as url,
        start_relay(stores, RELAY_ASSISTANT_DB=url, **OFTEN) as worker,
    ):
        assert "too many connections" in worker.wait_for("no_wake_ups")["reason"]
        worker.wait_for("started")
        worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0


def test_two_relays_share_the_shards_and_the_one_left_takes_over(stores: Stores) -> None:
    with (
        running_relay(stores, RELAY_LEASE="1", **OFTEN) as first,
        running_relay(stores, RELAY_LEASE="1", **OFTEN) as second,
    ):
        ids = [stores.create().invite.id for _ in range(40)]
        first.kill()
        more = [stores.create().invite.id for _ in range(40)]
        done = {row["key"] for row in stores.messages("state = 'delivered'")}
        second.wait_until_delivered(*(set(ids + more) - done))
        assert second.terminate() == 0
    assert all(stores.mirrored(id_) is not None for id_ in ids + more)
    assert set(stores.states()) == {"delivered"}


def test_a_gateway_that_goes_and_returns_is_used_again_by_itself(stores: Stores) -> None:
    with running_relay(stores, **OFTEN) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        with missing(stores):
            invite = stores.create().invite.id
            worker.wait_for("gateway_unreachable")
            assert stores.messages(f"key = '{invite}'")[0]["attempts"] == 0
        worker.wait_until_delivered(invite)
        assert worker.events("gateway_reachable_again") or worker.wait_for("gateway_reachable_again")
        assert worker.terminate() == 0
    assert stores.mirrored(invite) is not None


def test_a_daemons_database_that_goes_and_returns_is_used_again_by_itself(stores: Stores) -> None:
    with running_relay(stores, **OFTEN) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        with gone(stores.source):
            worker.wait_for("outbox_unreachable")
        worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0
    assert stores.states() == ["delivered"] * 2


@pytest.mark.only("sqlite", because="its file is copied here; test_bad_days restores a copy of either kind")
def test_a_daemon_database_replaced_by_a_restored_copy_is_gone_on_with(stores: Stores) -> None:
    path, copy = stores.folder / "assistant.db", stores.folder / "copy.db"
    stores.create()
    stores.source.dispose()
    shutil.copy(path, copy)
    with running_relay(stores, RELAY_LEASE="1", **OFTEN) as worker:
        worker.wait_for("delivered")
        stores.source.dispose()
        for name in ("assistant.db", "assistant.db-wal", "assistant.db-shm"):
            (stores.folder / name).unlink(missing_ok=True)
        copy.rename(path)
        worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0
    assert set(stores.states()) == {"delivered"}
    assert relay(stores, "verify").code == 0


def test_until_empty_drains_what_is_due_and_exits(stores: Stores) -> None:
    for _ in range(5):
        stores.create()
    assert relay(stores, "run", "--until-empty").code == 0
    assert stores.states() == ["delivered"] * 5


def test_until_empty_ends_with_4_when_the_gateway_is_gone(stores: Stores) -> None:
    stores.create()
    with missing(stores):
        ended = relay(stores, "run", "--until-empty")
    assert ended.code == 4
    assert "gateway cannot be reached" in ended.err
    assert stores.messages()[0]["attempts"] == 0


def test_until_empty_that_is_stopped_before_it_is_empty_does_not_claim_to_be_done(stores: Stores) -> None:
    create_many(stores, 600)
    with running_relay(stores, "run", "--until-empty", RELAY_BATCH_SIZE="5") as worker:
        worker.wait_for("delivered")
        assert worker.terminate() == 3
    assert "pending" in stores.states()


def test_a_relay_frozen_past_its_lease_settles_nothing_of_what_another_took_over(stores: Stores) -> None:
    with running_relay(stores, RELAY_LEASE="1", **OFTEN) as frozen:
        frozen.wait_until_delivered(stores.create().invite.id)
        freeze(frozen, stores)
        # As if it had not been seen for long: the live one need not leave it a share.
        write(stores.source, "UPDATE outbox_relays SET seen_at = 0")
        with running_relay(stores, RELAY_LEASE="1", **OFTEN) as live:
            live.wait_for("took_over_lapsed_shards")
            live.wait_until_delivered(stores.create().invite.id)
            frozen.process.send_signal(signal.SIGCONT)
            assert frozen.terminate() == 0
            assert live.terminate() == 0
    assert stores.states() == ["delivered"] * 2
