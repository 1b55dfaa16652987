"""What a running relay does periodically besides draining: it reports drift and deletes what is settled for long."""

from outbox import SHARDS
from tests.conftest import Stores, write
from tests.databases import name_of
from tests.relay.outages import missing
from tests.system.processes import relay, running_relay


def test_drift_that_no_message_will_repair_is_reported_by_the_running_relay(stores: Stores) -> None:
    with running_relay(stores, RELAY_DRIFT_CHECK_INTERVAL="0.2") as worker:
        invite = stores.create().invite.id
        worker.wait_until_delivered(invite)
        write(stores.mirror, "DELETE FROM ingress_invites")
        drift = worker.wait_for("drift")
        assert worker.wait_for("drift_checked")["drift"] == 1
        assert worker.terminate() == 0
    assert (drift["invite"], drift["kind"]) == (invite, "missing")


def test_a_drift_check_without_a_gateway_is_one_warning_and_the_relay_goes_on(stores: Stores) -> None:
    with running_relay(stores, RELAY_DRIFT_CHECK_INTERVAL="0.2", RELAY_PROBE_LONGEST="0.2") as worker:
        with missing(stores):
            warning = worker.wait_for("periodic_work_failed")
        assert (warning["work"], name_of(stores.mirror_url) in warning["reason"]) == ("check", True)
        worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0


def test_what_was_settled_long_ago_is_deleted_by_the_running_relay(stores: Stores) -> None:
    with running_relay(stores, RELAY_PRUNE_INTERVAL="0.2", RELAY_RETENTION="1h") as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        write(stores.source, "UPDATE outbox_messages SET settled_at = settled_at - 7200000")
        assert worker.wait_for("pruned")["count"] == 1
        assert worker.terminate() == 0
    assert stores.messages() == []


def test_a_relay_that_does_nothing_keeps_its_leases_by_renewing_them(stores: Stores) -> None:
    with running_relay(stores, RELAY_LEASE="5", RELAY_POLL_INTERVAL="3600", RELAY_DRIFT_CHECK_INTERVAL="8") as first:
        # Eight seconds and more without a message: longer than a lease.
        first.wait_for("drift_checked")
        with running_relay(stores, RELAY_LEASE="5") as second:
            assert second.terminate() == 0
        assert second.events("took_over_lapsed_shards") == []
        assert first.terminate() == 0
    assert first.events("took_over_lapsed_shards") == []


def test_the_shards_of_64_relays_that_are_gone_are_one_line(stores: Stores) -> None:
    # A relay's first run voids the leases that it finds.
    assert relay(stores, "run", "--until-empty").code == 0
    for shard in range(SHARDS):
        write(
            stores.source,
            "INSERT INTO outbox_leases (destination, shard, owner, token, expires_at, length_ms) "
            f"VALUES ('gateway', {shard}, 'gone-{shard}', 'token-{shard}', 1, 15000)",
        )
    with running_relay(stores) as worker:
        found = worker.wait_for("took_over_lapsed_shards")
        worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0
    assert (found["shards"], found["relays"]) == (list(range(SHARDS)), SHARDS)
    assert worker.events("took_over_lapsed_shards") == [found]
