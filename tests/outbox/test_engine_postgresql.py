"""PostgreSQL as the promises need it: whatever the server's defaults, nothing kept in the session, no wait for ever."""

import threading
from contextlib import closing

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from outbox import reading, writing
from outbox.database import postgresql
from outbox.database.engine import takes_writes
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox
from tests.outbox.threads import run_together

pytestmark = pytest.mark.only("postgresql", because="SQLite has no server, no session, and one lock for all")

PER_TRANSACTION = ("lock_timeout", "idle_in_transaction_session_timeout", "enable_seqscan", "transaction_isolation")


def set_default(box: Outbox, name: str, value: str) -> None:
    """For the connections made from now on."""
    write(box.engine, f"ALTER DATABASE {box.engine.url.database} SET {name} = '{value}'")


def add_thing(engine: Engine, name: str) -> None:
    write(engine, "INSERT INTO things VALUES (:name)", name=name)


def rename(engine: Engine, name: str) -> None:
    write(engine, "UPDATE things SET name = :name", name=name)


def test_two_that_lock_what_they_read_and_then_write_both_succeed_whatever_the_servers_default(box: Outbox) -> None:
    set_default(box, "default_transaction_isolation", "serializable")
    add_thing(box.engine, "0")
    engine = box.open()
    start = threading.Barrier(2)

    def count_up() -> None:
        for _ in range(20):
            start.wait(60)
            with writing(engine) as connection:
                number = int(connection.exec_driver_sql("SELECT name FROM things FOR UPDATE").scalar_one())
                connection.execute(text("UPDATE things SET name = :name"), {"name": str(number + 1)})

    run_together(count_up, count_up)

    assert rows(box.engine, "SELECT name FROM things") == [{"name": "40"}]


@pytest.mark.parametrize(("default", "used"), [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")])
def test_p03_a_commit_is_durable_even_where_the_database_was_set_to_forget_it(
    box: Outbox, default: str, used: str
) -> None:
    set_default(box, "synchronous_commit", default)
    for relay in (False, True):
        with writing(box.open(relay=relay)) as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == used


def test_reading_refuses_to_write(box: Outbox) -> None:
    with pytest.raises(DBAPIError, match="read-only transaction"), reading(box.engine) as connection:
        connection.exec_driver_sql("DELETE FROM things")


def test_a_server_that_takes_no_writes_is_told_from_one_that_does(box: Outbox) -> None:
    with writing(box.engine) as connection:
        assert takes_writes(connection)
    set_default(box, "default_transaction_read_only", "on")
    engine = box.open()

    with writing(engine) as connection:
        assert not takes_writes(connection)


def test_settings_hold_for_one_transaction_and_the_session_keeps_nothing(box: Outbox) -> None:
    # A transaction-mode pooler gives the next transaction to another session.
    relay = box.open(relay=True, busy_timeout=1.5)
    before = kept_in_the_session(relay)
    for _ in range(10):
        with writing(relay) as connection:
            inside = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in PER_TRANSACTION]
        with reading(relay) as connection:
            connection.execute(text("SELECT name FROM things WHERE name = :name"), {"name": "a"})

    assert inside == ["1500ms", "10s", "off", "read committed"]
    assert kept_in_the_session(relay) == before
    assert before[-2:] == ["0", "0"]


def kept_in_the_session(engine: Engine) -> list[object]:
    """Settings, prepared statements and locks of the pool's one connection, between two transactions."""
    found: list[object] = []
    with closing(engine.raw_connection()) as raw, closing(raw.cursor()) as cursor:
        for question in (
            *(f"SHOW {name}" for name in PER_TRANSACTION),
            "SELECT count(*)::text FROM pg_prepared_statements",
            "SELECT count(*)::text FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
        ):
            cursor.execute(question)
            found += cursor.fetchone() or ()
    return found


def test_a_connection_that_the_server_closed_in_the_pool_is_replaced(box: Outbox) -> None:
    engine = box.open()
    (pooled,) = rows(engine, "SELECT pg_backend_pid() AS pid")
    (ended,) = rows(box.engine, f"SELECT pg_terminate_backend({pooled['pid']}, 60000) AS ended")
    assert ended["ended"]

    add_thing(engine, "written")

    assert rows(box.engine, "SELECT name FROM things") == [{"name": "written"}]


def test_a_relay_that_stands_still_in_mid_transaction_holds_nobody_up_for_ever(
    box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "FROZEN_SECONDS", 2.0)
    add_thing(box.engine, "before")
    relay, patient = box.open(relay=True), box.open(busy_timeout=60)

    frozen = relay.connect()
    transaction = frozen.begin()
    frozen.exec_driver_sql("UPDATE things SET name = 'frozen'")

    rename(patient, "went on")

    with pytest.raises(DBAPIError, match="idle-in-transaction"):
        transaction.commit()
    frozen.close()

    assert rows(box.engine, "SELECT name FROM things") == [{"name": "went on"}]
