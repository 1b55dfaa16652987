"""Who waits for whom: one that writes for another that does, and no longer than it wants; one that reads for nobody."""

import threading
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from outbox import open_engine, read_only, reading, writing
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox
from tests.outbox.threads import run_together


@pytest.mark.only("sqlite", because="on PostgreSQL only what is read FOR UPDATE is locked")
def test_two_that_read_and_then_write_both_succeed_and_neither_is_lost(box: Outbox) -> None:
    write(box.engine, "INSERT INTO things VALUES ('0')")
    start = threading.Barrier(2)

    def count_up() -> None:
        for _ in range(20):
            start.wait(60)
            with Session(box.engine) as session, session.begin():
                number = int(session.execute(text("SELECT name FROM things")).scalar_one())
                session.execute(text("UPDATE things SET name = :name"), {"name": str(number + 1)})

    run_together(count_up, count_up)

    assert rows(box.engine, "SELECT name FROM things") == [{"name": "40"}]


def test_reading_takes_no_write_lock(box: Outbox) -> None:
    box.put()
    impatient = box.open(busy_timeout=0)

    with writing(box.engine) as connection:
        connection.execute(text("DELETE FROM outbox_messages"))
        with reading(impatient) as other:
            found = other.execute(text("SELECT count(*) FROM outbox_messages")).scalar_one()
        with Session(read_only(impatient)) as session:
            found_by_session = session.execute(text("SELECT count(*) FROM outbox_messages")).scalar_one()

    assert (found, found_by_session) == (1, 1)


def test_reading_sees_one_snapshot_while_others_write(box: Outbox) -> None:
    count = text("SELECT count(*) FROM outbox_messages")
    with reading(box.engine) as connection:
        before = connection.execute(count).scalar_one()
        box.put()
        during = connection.execute(count).scalar_one()

    assert (before, during, len(box.rows())) == (0, 0, 1)


def test_a_second_writer_waits_no_longer_than_its_busy_timeout(box: Outbox) -> None:
    write(box.engine, "INSERT INTO things VALUES ('before')")
    impatient = box.open(busy_timeout=0)

    with writing(box.engine) as connection:
        connection.execute(text("UPDATE things SET name = 'first'"))
        with pytest.raises(OperationalError, match=r"database is locked|lock timeout"):
            write(impatient, "UPDATE things SET name = 'second'")

    assert rows(box.engine, "SELECT name FROM things") == [{"name": "first"}]


def test_writing_commits_at_the_end_and_rolls_back_on_an_exception(box: Outbox) -> None:
    with writing(box.engine) as connection:
        connection.execute(text("INSERT INTO things VALUES ('kept')"))
    with pytest.raises(ZeroDivisionError), writing(box.engine) as connection:
        assert connection.execute(text("INSERT INTO things VALUES ('gone')")).rowcount / 0

    assert rows(box.engine, "SELECT name FROM things") == [{"name": "kept"}]


@pytest.mark.only("sqlite", because="PostgreSQL needs no switch to write-ahead logging")
def test_a_database_in_use_while_it_is_switched_to_wal_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "daemon.db"
    engine = open_engine(f"sqlite:///{path}", busy_timeout=0)
    assert engine.dialect.dbapi is not None
    daemon = engine.dialect.dbapi.connect(path)
    daemon.execute("CREATE TABLE t (x)")
    daemon.execute("INSERT INTO t VALUES (1)")
    tries: list[str] = []

    def end_the_daemons_transaction_at_the_second_try(statement: str) -> None:
        if "journal_mode=WAL" in statement:
            tries.append(statement)
            if len(tries) == 2:
                daemon.commit()

    @event.listens_for(engine, "connect", insert=True)
    def trace(dbapi_connection: Any, _record: object) -> None:
        dbapi_connection.set_trace_callback(end_the_daemons_transaction_at_the_second_try)

    assert rows(engine, "PRAGMA journal_mode") == [{"journal_mode": "wal"}]

    assert len(tries) == 2
    daemon.close()
    engine.dispose()
