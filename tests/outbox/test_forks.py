"""A forked child that inherits an engine makes connections of its own, and leaves its parent's alone."""

import gc
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from outbox import InheritedConnectionError, open_engine, reading
from outbox.database.dead_connections import Watch
from outbox.database.file_locks import open_descriptors
from outbox.database.files import file_identity
from outbox.wakeups.datagram import DatagramSource, wake_directory
from tests.conftest import rows
from tests.outbox.conftest import Outbox
from tests.outbox.forking import add, commit, configured, exit_code, forked, opened, opened_by_a_relay, run_apart
from tests.outbox.listening import driver_connection
from tests.outbox.test_file_locks import LOOK, elsewhere, read_some

Make = Callable[[str], Engine]
engines = pytest.mark.parametrize("make", [opened, opened_by_a_relay, configured])
CHILDREN, EACH = 3, 15


def keys(box: Outbox) -> list[str]:
    return sorted(row["key"] for row in rows(box.engine, "SELECT key FROM outbox_messages"))


def checked(box: Outbox) -> None:
    if box.engine.dialect.name == "sqlite":
        assert rows(box.engine, "PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def names(of: str) -> list[str]:
    return [f"{of} {number}" for number in range(EACH)]


def in_idle_children(make: Make, url: str) -> None:
    engine = make(url)
    commit(engine, "parent before")
    children = [forked(partial(commit, engine, *names(f"child {n}"))) for n in range(CHILDREN)]
    commit(engine, *names("parent"))
    assert [exit_code(child) for child in children] == [0] * CHILDREN
    commit(engine, "parent after")


@engines
def test_p01_what_children_and_their_parent_commit_at_the_same_time_is_all_there(box: Outbox, make: Make) -> None:
    box.engine.dispose()

    run_apart(in_idle_children, make, box.url)

    assert len(keys(box)) == 2 + EACH * (CHILDREN + 1)
    checked(box)


def with_a_transaction_open(make: Make, url: str, big: int) -> None:
    engine = make(url)
    commit(engine, "before")
    read, write = os.pipe()
    session = Session(engine)
    add(session, "parents")
    # Beyond what SQLite keeps in memory, so that a part of it is in the log already.
    for number in range(big):
        session.execute(text("INSERT INTO things VALUES (:name)"), {"name": f"{number} {'x' * 1_000}"})

    def use_it() -> None:
        for use in (lambda: session.execute(text("SELECT 1")), session.commit):
            with pytest.raises(InheritedConnectionError, match="belong to the process that this one was forked from"):
                use()
        session.close()
        with reading(engine) as connection:
            assert connection.execute(text("SELECT count(*) FROM outbox_messages")).scalar_one() == 1
        os.write(write, b"x")
        commit(engine, "childs")

    child = forked(use_it)
    assert os.read(read, 1) == b"x"
    assert session.execute(text("SELECT count(*) FROM things")).scalar_one() == big
    session.commit()
    session.close()
    assert exit_code(child) == 0


@engines
@pytest.mark.parametrize("big", [0, 8_000])
def test_p01_a_transaction_open_at_the_fork_is_the_parents_alone(box: Outbox, make: Make, big: int) -> None:
    box.engine.dispose()

    run_apart(with_a_transaction_open, make, box.url, big)

    assert keys(box) == ["before", "childs", "parents"]
    assert rows(box.engine, "SELECT count(*) AS n FROM things") == [{"n": big}]
    checked(box)


def left_by_an_exception(make: Make, url: str) -> None:
    engine = make(url)
    child = -1
    try:
        with Session(engine) as session, session.begin():
            add(session, "parents")
            child = os.fork()
            if child == 0:
                sys.exit("leaves the block")
    except SystemExit:
        del session
        gc.collect()
        os._exit(7)
    assert exit_code(child) == 7


@engines
def test_a_child_that_leaves_its_parents_block_neither_commits_nor_rolls_back_nor_closes(
    box: Outbox, make: Make
) -> None:
    box.engine.dispose()

    run_apart(left_by_an_exception, make, box.url)

    assert keys(box) == ["parents"]


def in_a_grandchild(make: Make, url: str) -> None:
    engine = make(url)
    commit(engine, "parent")

    def child() -> None:
        commit(engine, "child")
        grandchild = forked(lambda: commit(engine, "grandchild"))
        commit(engine, "child again")
        assert exit_code(grandchild) == 0

    assert exit_code(forked(child)) == 0
    commit(engine, "parent again")


@engines
def test_children_of_children_make_their_own_as_well(box: Outbox, make: Make) -> None:
    box.engine.dispose()

    run_apart(in_a_grandchild, make, box.url)

    assert keys(box) == ["child", "child again", "grandchild", "parent", "parent again"]


def while_another_thread_writes(make: Make, url: str) -> None:
    engine = make(url)
    is_open, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        with Session(engine) as session, session.begin():
            add(session, "threads")
            is_open.set()
            may_end.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    is_open.wait(30)

    def write() -> None:
        if engine.dialect.name == "sqlite":
            with pytest.raises(InheritedConnectionError, match=r"outbox\.db was in use by another thread .* spawn"):
                commit(engine, "childs")
        else:
            commit(engine, "childs")

    child = forked(write)
    code = exit_code(child)
    may_end.set()
    thread.join()
    assert code == 0


@engines
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_forked_beside_a_thread_in_mid_transaction_hangs_nowhere(box: Outbox, make: Make, backend: str) -> None:
    box.engine.dispose()

    run_apart(while_another_thread_writes, make, box.url)

    assert keys(box) == (["threads"] if backend == "sqlite" else ["childs", "threads"])


def keeping_its_lock(make: Make, url: str, path: Path) -> None:
    engine = make(url)
    commit(engine, "before")

    def child() -> None:
        commit(engine, "childs")
        engine.dispose()
        identity = file_identity(path)
        assert identity is not None
        assert open_descriptors(identity) == set()

    assert exit_code(forked(child)) == 0
    with Session(engine) as session, session.begin():
        add(session, "parents")
        read_some(path)
        elsewhere(LOOK, path)


@pytest.mark.only("sqlite", because="a server's locks are its own")
@pytest.mark.parametrize("make", [opened, configured])
def test_p04_a_child_that_closes_its_engine_takes_none_of_its_parents_locks_away(box: Outbox, make: Make) -> None:
    box.engine.dispose()

    run_apart(keeping_its_lock, make, box.url, box.path)

    assert keys(box) == ["before", "childs", "parents"]


def keeping_its_session(url: str) -> None:
    engine = open_engine(url)
    pid = text("SELECT pg_backend_pid()")
    with engine.begin() as connection:
        before = connection.execute(pid).scalar_one()
        assert exit_code(forked(engine.dispose)) == 0
        assert connection.execute(pid).scalar_one() == before
    assert exit_code(forked(engine.dispose)) == 0
    with engine.begin() as connection:
        assert connection.execute(pid).scalar_one() == before


@pytest.mark.only("postgresql", because="a session is a server's")
def test_the_parents_session_outlives_its_children(box: Outbox) -> None:
    run_apart(keeping_its_session, box.url)


def ended_before_its_child(url: str) -> None:
    engine = open_engine(url)
    session = Session(engine)
    add(session, "never committed")
    ready, write = os.pipe()

    def outlive() -> None:
        os.write(write, str(os.getpid()).encode().ljust(16))
        threading.Event().wait(20)

    forked(outlive)
    os.read(ready, 16)
    os._exit(0)


@pytest.mark.only("postgresql", because="a session is a server's")
def test_a_session_ends_with_the_process_that_made_it_though_a_child_lives_on(box: Outbox) -> None:
    run_apart(ended_before_its_child, box.url)

    # The lock of the parent's transaction is waited for.
    with box.engine.begin() as connection:
        connection.exec_driver_sql("LOCK TABLE outbox_messages IN ACCESS EXCLUSIVE MODE")


def watched(url: str) -> None:
    engine = open_engine(url)
    watch = Watch(0.2)
    with driver_connection(engine) as parents:
        watch.begin(1, parents)

        def be_cut_off() -> None:
            own = driver_connection(engine)
            watch.begin(2, own)
            with pytest.raises(psycopg.OperationalError):
                own.execute("SELECT pg_sleep(30)")

        child = forked(be_cut_off)
        watch.end(1)
        assert exit_code(child) == 0
        parents.execute("SELECT 1")


@pytest.mark.only("postgresql", because="SQLite has no server that stops answering")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_watches_its_own_connections(box: Outbox) -> None:
    run_apart(watched, box.url)


def listening(database: Path) -> None:
    source = DatagramSource(database, "relay")
    assert exit_code(forked(source.close)) == 0
    assert [path.name for path in wake_directory(database).iterdir()] == ["relay"]
    source.close()
    assert list(wake_directory(database).iterdir()) == []


@pytest.mark.only("sqlite", because="a server wakes its listeners by itself")
def test_a_child_that_leaves_a_listening_relay_takes_nothing_of_its_name_away(box: Outbox) -> None:
    run_apart(listening, box.path)
