"""Errors with which a server refuses a statement for reasons that lie not in the message: an outage, P4, P5, P7."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

import pytest
from sqlalchemy import Connection, text

from outbox import writing
from tests.conftest import Stores, rows, write
from tests.postgresql.unharmed import assert_unharmed, busy_daemon, watch_closing
from tests.postgresql.waiting import go_on, stop, until, until_drained, until_one_waits_for_a_lock
from tests.system.processes import RelayProcess, running_relay

PROBING = {"RELAY_PROBE_LONGEST": "0.2", "RELAY_BATCH_SIZE": "20"}
DISK_FULL, SERIALIZATION, OUT_OF_MEMORY = "53100", "40001", "53200"
# Longer than the server takes to look for deadlocks, 1 s.
PATIENT = {"RELAY_GATEWAY_TIMEOUT": "2"}

Fault = Callable[[Stores], AbstractContextManager[None]]


@contextmanager
def raising(code: str, side: str, stores: Stores) -> Iterator[None]:
    """The gateway takes no invite, or the outbox takes no verdict."""
    engine = stores.mirror if side == "mirror" else stores.source
    events, table = ("INSERT OR UPDATE", "ingress_invites") if side == "mirror" else ("UPDATE", "outbox_messages")
    write(
        engine,
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RAISE EXCEPTION USING ERRCODE = ''{code}''; END'
        """,
    )
    write(engine, f"CREATE TRIGGER refusing BEFORE {events} ON {table} FOR EACH STATEMENT EXECUTE FUNCTION refuse()")
    yield
    write(engine, f"DROP TRIGGER refusing ON {table}")
    write(engine, "DROP FUNCTION refuse()")


@contextmanager
def table_gone(table: str, stores: Stores) -> Iterator[None]:
    write(stores.mirror, f"ALTER TABLE {table} RENAME TO away")
    yield
    write(stores.mirror, f"ALTER TABLE away RENAME TO {table}")


AT_THE_GATEWAY: list[Fault] = [
    *(partial(raising, code, "mirror") for code in (DISK_FULL, SERIALIZATION, OUT_OF_MEMORY)),
    *(partial(table_gone, table) for table in ("ingress_invites", "contacts", "ingress_invites_closed")),
]
AT_THE_OUTBOX: list[Fault] = [partial(raising, code, "source") for code in (DISK_FULL, SERIALIZATION, OUT_OF_MEMORY)]


@pytest.mark.parametrize(
    ("faults", "trouble"),
    [(AT_THE_GATEWAY, "gateway_unreachable"), (AT_THE_OUTBOX, "outbox_unreachable")],
    ids=["gateway", "outbox"],
)
def test_p04_p05_p07_one_relay_lives_through_every_error_of_a_server_and_burns_no_attempt(
    stores: Stores, faults: list[Fault], trouble: str
) -> None:
    watch_closing(stores)
    with running_relay(stores, **PROBING) as started:
        with busy_daemon(stores):
            for fault in faults:
                with fault(stores):
                    for _ in range(3):
                        started.wait_for(trouble)
                started.wait_for("delivered")
        until_drained(stores, started)
        assert started.terminate() == 0

    assert_unharmed(stores, started)


def lock(connection: Connection, table: str, where: str, **values: object) -> None:
    # The server ends the transaction that finds the deadlock: the relay's, since this one does not look for it.
    connection.execute(text("SET LOCAL deadlock_timeout = '60s'"))
    connection.execute(text("SET LOCAL lock_timeout = '30s'"))
    connection.execute(text(f"SELECT 1 FROM {table} WHERE {where} FOR UPDATE"), values)


@contextmanager
def standing_still(started: RelayProcess) -> Iterator[None]:
    stop(started)
    yield
    go_on(started)


def test_p04_p07_a_deadlock_at_the_gateway_that_the_relay_loses_is_tried_again(stores: Stores) -> None:
    watch_closing(stores)
    first, second = sorted(stores.create().invite.id for _ in range(2))
    with running_relay(stores, **PROBING, **PATIENT) as started:
        until_drained(stores, started)
        with writing(stores.mirror) as connection:
            lock(connection, "ingress_invites", "id = :id", id=second)
            # Both are in its next batch then.
            with standing_still(started):
                for id_ in (first, second):
                    stores.revoke(id_)
            until_one_waits_for_a_lock(stores.mirror)
            lock(connection, "ingress_invites", "id = :id", id=first)
        until_drained(stores, started)
        assert started.terminate() == 0

    query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    until("the deadlock is counted", lambda: rows(stores.mirror, query) == [{"deadlocks": 1}])
    assert_unharmed(stores, started)


def test_p04_p07_a_deadlock_in_settling_that_the_relay_loses_is_an_outage(stores: Stores) -> None:
    watch_closing(stores)
    with running_relay(stores, **PROBING) as started:
        with writing(stores.source) as connection:
            with standing_still(started):
                stores.revoke(stores.create().invite.id)
                (_, message) = stores.messages()
                lock(connection, "outbox_messages", "key = :key", key=message["key"])
            until_one_waits_for_a_lock(stores.source)
            lock(connection, "outbox_leases", "shard = :shard", shard=message["shard"])
        started.wait_for("outbox_unreachable", reason="deadlock detected")
        until_drained(stores, started)
        assert started.terminate() == 0

    assert_unharmed(stores, started)
