"""P4 on SQLite: whatever opens and closes the database's file beside the connections, no commit goes into a log that
another process has deleted."""

import asyncio
import gc
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import Session

from outbox import OutcomeUnknownError, configure_engine, open_engine, reading
from outbox.database.file_locks import open_descriptors
from outbox.database.files import file_identity
from outbox.database.sqlite import sqlite_module
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox

pytestmark = [
    pytest.mark.only("sqlite", because="files and their locks are SQLite's"),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has locks of open file descriptions"),
]
LOOK = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('SELECT count(*) FROM things'); c.close()"
LOOK_AND_DIE = LOOK.replace("c.close()", "c.execute(sys.argv[2]); c.commit(); import os; os.kill(os.getpid(), 9)")
SEEN = "import sqlite3, sys; print(*[n for n, in sqlite3.connect(sys.argv[1]).execute('SELECT name FROM things')])"


def elsewhere(script: str, *args: object) -> str:
    """What another process says, that uses SQLite and nothing of ours."""
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout.strip()


def read_some(path: Path) -> None:
    with path.open("rb") as file:
        file.read(16)


def copy(path: Path) -> None:
    shutil.copy(path, path.with_name("copy.db"))


def add(engine: Engine, name: str) -> None:
    write(engine, "INSERT INTO things VALUES (:name)", name=name)


def wal_of(box: Outbox) -> Path:
    return box.path.with_name("outbox.db-wal")


def configured(box: Outbox) -> Engine:
    engine = create_engine(box.url, module=sqlite_module())
    configure_engine(engine)
    return engine


@pytest.fixture
def engine(box: Outbox) -> Engine:
    """The only one of this process."""
    box.engine.dispose()
    made = box.open()
    add(made, "first")
    return made


@pytest.mark.parametrize("touch", [read_some, copy])
@pytest.mark.parametrize("make", [Outbox.open, configured])
def test_p04_a_file_read_in_the_daemons_process_loses_nothing_that_is_committed_afterwards(
    box: Outbox, touch: Callable[[Path], None], make: Callable[[Outbox], Engine]
) -> None:
    box.engine.dispose()
    engine = make(box)
    add(engine, "before")

    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO things VALUES ('during')")
        touch(box.path)
        elsewhere(LOOK, box.path)
    add(engine, "after")

    assert elsewhere(SEEN, box.path) == "before during after"
    engine.dispose()


def test_p04_a_file_read_beside_an_asyncio_engine_loses_nothing_that_is_committed_afterwards(box: Outbox) -> None:
    box.engine.dispose()

    async def work() -> str:
        engine = create_async_engine(box.url.replace("sqlite:", "sqlite+aiosqlite:"))
        configure_engine(engine.sync_engine)
        insert = text("INSERT INTO things VALUES (:name)")
        try:
            for name in ("before", "after"):
                async with engine.begin() as connection:
                    await connection.execute(insert, {"name": name})
                    read_some(box.path)
                    elsewhere(LOOK, box.path)
            return elsewhere(SEEN, box.path)
        finally:
            await engine.dispose()

    assert asyncio.run(work()) == "before after"
    assert not wal_of(box).exists()


def test_an_engine_closed_beside_another_takes_none_of_its_locks_away(box: Outbox, engine: Engine) -> None:
    other = box.open()
    add(other, "other")

    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO things VALUES ('during')")
        other.dispose()
        read_some(box.path)
        elsewhere(LOOK, box.path)

    assert elsewhere(SEEN, box.path) == "first other during"


def test_closing_the_last_engine_takes_no_locks_of_a_connection_that_the_process_made_by_itself(
    box: Outbox, engine: Engine
) -> None:
    with closing(sqlite_module().connect(box.path)) as own:
        own.execute("SELECT count(*) FROM things").fetchone()
        engine.dispose()

        elsewhere(LOOK, box.path)
        own.execute("INSERT INTO things VALUES ('own')")
        own.commit()

        assert elsewhere(SEEN, box.path) == "first own"


def test_a_process_that_closes_its_last_connection_leaves_no_log_and_no_descriptor(box: Outbox, engine: Engine) -> None:
    identity = file_identity(box.path)
    assert identity is not None
    assert wal_of(box).exists()

    engine.dispose()

    assert not wal_of(box).exists()
    assert open_descriptors(identity) == set()


def test_a_process_keeps_one_descriptor_a_file_however_many_connections_it_has(box: Outbox, engine: Engine) -> None:
    identity = file_identity(box.path)
    assert identity is not None
    with reading(engine), reading(box.open()), reading(box.open()):
        assert len(open_descriptors(identity)) == 3 + 1


def test_an_engine_that_was_never_closed_keeps_no_descriptor_once_another_is(box: Outbox) -> None:
    box.engine.dispose()
    identity = file_identity(box.path)
    assert identity is not None
    forgotten = open_engine(box.url)
    add(forgotten, "a")

    del forgotten
    gc.collect()
    with reading(box.open()):
        pass
    box.close()

    assert open_descriptors(identity) == set()


def put_another_log_in_its_place(box: Outbox) -> None:
    wal_of(box).unlink()
    wal_of(box).touch()


def put_another_database_in_its_place(box: Outbox) -> None:
    copied = box.path.with_name("copied.db")
    with closing(sqlite3.connect(box.path)) as source:
        source.execute(f"VACUUM INTO '{copied}'")
    copied.replace(box.path)


replaced = pytest.mark.parametrize("replace", [put_another_log_in_its_place, put_another_database_in_its_place])


@replaced
@pytest.mark.parametrize("make", [Outbox.open, configured])
def test_p12_a_commit_to_a_file_that_was_replaced_meanwhile_has_an_unknown_outcome(
    box: Outbox, replace: Callable[[Outbox], None], make: Callable[[Outbox], Engine]
) -> None:
    engine = make(box)
    session = Session(engine)
    session.execute(text("INSERT INTO things VALUES ('a')"))

    replace(box)

    with pytest.raises(OutcomeUnknownError, match=r"outbox\.db(-wal)? was replaced .* again with the same id"):
        session.commit()
    session.close()
    engine.dispose()


@replaced
def test_p12_an_asyncio_commit_to_a_file_that_was_replaced_has_an_unknown_outcome(
    box: Outbox, replace: Callable[[Outbox], None]
) -> None:
    async def work() -> None:
        engine = create_async_engine(box.url.replace("sqlite:", "sqlite+aiosqlite:"))
        configure_engine(engine.sync_engine)
        try:
            async with engine.begin() as connection:
                await connection.execute(text("INSERT INTO things VALUES ('a')"))
                replace(box)
        finally:
            await engine.dispose()

    with pytest.raises(OutcomeUnknownError, match="was replaced"):
        asyncio.run(work())


def test_reading_beside_a_log_that_is_replaced_is_no_error(box: Outbox, engine: Engine) -> None:
    with reading(engine) as connection:
        put_another_log_in_its_place(box)
        assert connection.exec_driver_sql("SELECT name FROM things").scalar_one() == "first"


def test_a_connection_whose_log_was_replaced_is_not_used_again(box: Outbox, engine: Engine) -> None:
    for path in (wal_of(box), box.path.with_name("outbox.db-shm")):
        path.unlink()

    add(engine, "into the new log")

    assert elsewhere(SEEN, box.path).split()[-1] == "log"


def test_closing_a_connection_deletes_no_log_but_its_own(box: Outbox, engine: Engine) -> None:
    for path in (wal_of(box), box.path.with_name("outbox.db-shm")):
        path.unlink()
    elsewhere(LOOK_AND_DIE, box.path, "INSERT INTO things VALUES ('anothers')")
    assert wal_of(box).exists()

    engine.dispose()

    assert "anothers" in elsewhere(SEEN, box.path)


def test_a_killed_process_leaves_nothing_locked(box: Outbox) -> None:
    box.engine.dispose()
    script = (
        "import os, sys; from outbox import open_engine, reading\n"
        "engine = open_engine(sys.argv[1])\n"
        "with reading(engine): os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", script, box.url], timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL

    with closing(sqlite3.connect(box.path)) as alone:
        assert alone.execute("PRAGMA journal_mode=DELETE").fetchone() == ("delete",)
    assert rows(box.open(), "SELECT * FROM things") == []
