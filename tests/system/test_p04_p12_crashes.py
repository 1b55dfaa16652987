"""P4, P12: killed at any statement or commit, or told by COMMIT of a failure that was none, nothing is lost."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import URL, Connection, Engine, event
from sqlalchemy.exc import OperationalError

from outbox import Outcome
from relay.open import open_gateway, open_source
from relay.settings import Settings
from relay.worker import Worker
from tests.conftest import Stores, rows, write
from tests.crash import run_killed_at_each_step
from tests.relay.rig import Meddling, create_many, drain_all, draining, gateway_of, outcomes
from tests.system.processes import relay, running_relay

TROUBLES: dict[str, Exception] = {
    "sqlite": sqlite3.OperationalError("disk I/O error"),
    "postgresql": psycopg.OperationalError("the connection is lost"),
}


def drain_to_the_end(source_url: str, mirror_url: str) -> None:
    settings = Settings(assistant_db=source_url, gateway=mirror_url)
    source = open_source(settings)
    gateway = open_gateway(settings)
    Worker(source, gateway, settings).run(until_empty=True)
    gateway.close()
    source.dispose()


def same_invites(stores: Stores) -> bool:
    ours = rows(stores.source, "SELECT * FROM assistant_ingress_invites ORDER BY id")
    return ours == rows(stores.mirror, "SELECT * FROM ingress_invites ORDER BY id")


@pytest.mark.timeout(300)
def test_p04_a_relay_killed_at_any_step_loses_nothing(stores: Stores) -> None:
    revoked, used, waiting = (
        stores.create().invite,
        stores.create(max_uses=2).invite,
        stores.create(contact_id="nobody"),
    )
    stores.create(source_channel="sms")
    stores.revoke(revoked.id)
    stores.use(used.id)
    runs = iter(range(1_000))

    def recover() -> None:
        drain_to_the_end(stores.source_url, stores.mirror_url)
        messages = {row["seq"]: row for row in stores.messages()}
        states = [row["state"] for row in messages.values()]
        assert states == ["superseded", "superseded", "retrying", "delivered", "delivered", "delivered"]
        assert [row["attempts"] for row in messages.values()][3:] == [0, 0, 0], "a kill is no refusal"
        assert messages[3]["attempts"] in (1, 2)
        assert stores.mirrored(waiting.invite.id) is None
        compared = rows(stores.source, "SELECT * FROM assistant_ingress_invites WHERE contact_id <> 'nobody'")
        mirrored = {row["id"]: row for row in rows(stores.mirror, "SELECT * FROM ingress_invites")}
        assert {row["id"]: row for row in compared} == mirrored

    def arrange() -> tuple[str, str]:
        if next(runs):
            recover()
        put_back_to_the_start(stores)
        # With no connection left, whoever comes next finds the files as the killed one left them.
        stores.source.dispose()
        stores.mirror.dispose()
        return stores.source_url, stores.mirror_url

    kills = run_killed_at_each_step(drain_to_the_end, arrange)
    recover()
    assert kills > 20


def test_p04_a_real_relay_killed_again_and_again_in_a_heap_of_messages_loses_nothing(stores: Stores) -> None:
    ids = create_many(stores, 2_000)
    for id_ in ids[::10]:
        stores.revoke(id_)
    for _ in range(4):
        with running_relay(stores, RELAY_BATCH_SIZE="50") as worker:
            worker.wait_for("delivered")
            worker.kill()
    assert "pending" in stores.states(), "killed before the end"
    # Of the last one a batch is suspected, whose messages are delivered one by one.
    assert relay(stores, "run", "--until-empty", RELAY_BATCH_SIZE="50").code == 0
    assert set(stores.states()) == {"delivered", "superseded"}
    assert sum(row["attempts"] for row in stores.messages()) <= 4, "a kill counts against one message at most"
    assert same_invites(stores)
    assert relay(stores, "verify").code == 0


def put_back_to_the_start(stores: Stores) -> None:
    """As if no relay had ever run."""
    write(
        stores.source,
        "UPDATE outbox_messages SET state = 'pending', attempts = 0, available_at = NULL, last_error = NULL, "
        "settled_at = NULL, refused_for_ms = 0, refused_at = NULL, crashes = 0",
    )
    for table in ("outbox_leases", "outbox_relays"):
        write(stores.source, f"DELETE FROM {table}")
    # A deleted invite is remembered in the second.
    for table in ("ingress_invites", "ingress_invites_closed"):
        write(stores.mirror, f"DELETE FROM {table}")


@contextmanager
def _commits_that_fail(stores: Stores) -> Iterator[None]:
    """In the daemon's database, as on a full disk."""

    def fail(connection: Connection) -> None:
        if connection.engine.url == stores.source.url:
            connection.connection.driver_connection.execute("ROLLBACK")  # type: ignore[union-attr]
            raise OperationalError("COMMIT", None, TROUBLES[connection.dialect.name])

    event.listen(Engine, "commit", fail)
    yield
    event.remove(Engine, "commit", fail)


@pytest.fixture
def commits_that_lie() -> Iterator[list[URL]]:
    """At the next commit in each database listed the commit happens, and then an error is reported."""
    databases: list[URL] = []

    def commit_then_fail(connection: Connection) -> None:
        if connection.engine.url in databases:
            databases.remove(connection.engine.url)
            connection.connection.driver_connection.execute("COMMIT")  # type: ignore[union-attr]
            raise OperationalError("COMMIT", None, TROUBLES[connection.dialect.name])

    event.listen(Engine, "commit", commit_then_fail)
    yield databases
    event.remove(Engine, "commit", commit_then_fail)


def test_p12_a_settling_that_committed_but_reported_an_error_is_found_settled(
    stores: Stores, commits_that_lie: list[URL]
) -> None:
    for _ in range(3):
        stores.create()
    with gateway_of(stores) as real:
        # Noted after the delivery: the next commit in the daemon's database is the one of settling.
        gateway = Meddling(real, after=lambda _: commits_that_lie.append(stores.source.url))
        with draining(stores, gateway) as drain:
            with pytest.raises(OperationalError, match="COMMIT"):
                drain.batch()
            assert drain_all(drain) == []
    assert stores.states() == ["delivered"] * 3
    assert same_invites(stores)


def test_p12_a_settling_that_failed_leads_to_a_harmless_redelivery(stores: Stores) -> None:
    ids = [stores.create().invite.id for _ in range(3)]
    with gateway_of(stores) as real:
        gateway = Meddling(real, after=lambda _: blocked.__enter__())
        with draining(stores, gateway) as drain:
            blocked = _commits_that_fail(stores)
            with pytest.raises(OperationalError, match="COMMIT"):
                drain.batch()
            blocked.__exit__(None, None, None)
            assert stores.states() == ["pending"] * 3
            gateway.after = lambda _: None
            assert outcomes(drain_all(drain)) == [Outcome.DELIVERED] * 3
    assert gateway.delivered == [ids, ids]
    assert [row["attempts"] for row in stores.messages()] == [0, 0, 0]
    assert same_invites(stores)


def test_p12_a_gateway_commit_that_succeeded_but_reported_an_error_is_delivered_again_without_harm(
    stores: Stores, commits_that_lie: list[URL]
) -> None:
    ids = [stores.create().invite.id for _ in range(3)]
    with gateway_of(stores) as gateway, draining(stores, gateway) as drain:
        commits_that_lie.append(stores.mirror.url)
        assert outcomes(drain.batch()) == [Outcome.DELIVERED] * 3
        assert commits_that_lie == []
    assert all(stores.mirrored(id_) is not None for id_ in ids)
    assert [(row["state"], row["attempts"]) for row in stores.messages()] == [("delivered", 0)] * 3
    assert same_invites(stores)
