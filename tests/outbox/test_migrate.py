"""Creating and upgrading the outbox: all or nothing, by any number of processes, at any moment."""

from pathlib import Path

import pytest
from sqlalchemy.orm import Session

import outbox
from outbox import SchemaRefusedError, open_engine, writing
from tests.conftest import rows, write
from tests.crash import run_killed_at_each_step
from tests.outbox.conftest import Outbox
from tests.outbox.processes import run_together

SCHEMA = "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"


def upgrade(url: str) -> None:
    engine = open_engine(url)
    outbox.upgrade(engine)
    engine.dispose()


def create_and_write(url: str) -> None:
    engine = open_engine(url)
    outbox.upgrade(engine)
    with Session(engine) as session, session.begin():
        outbox.enqueue(session, topic="t", key="k", version=1, payload="{}")
    engine.dispose()


def test_upgrading_twice_changes_nothing_and_keeps_the_rows(box: Outbox) -> None:
    box.put("kept")
    before = rows(box.engine, SCHEMA), box.rows()

    outbox.upgrade(box.engine)

    assert (rows(box.engine, SCHEMA), box.rows()) == before


def test_an_upgrade_keeps_the_tables_of_others_and_leaves_foreign_keys_on(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'daemon.db'}")
    write(engine, "CREATE TABLE alembic_version (version_num TEXT)")
    write(engine, "INSERT INTO alembic_version VALUES ('the daemon''s own')")

    outbox.upgrade(engine)

    assert rows(engine, "SELECT * FROM alembic_version") == [{"version_num": "the daemon's own"}]
    assert rows(engine, "PRAGMA foreign_keys") == [{"foreign_keys": 1}]
    engine.dispose()


def test_processes_that_open_and_create_one_new_database_at_once_all_succeed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"

    run_together(8, create_and_write, url)

    engine = open_engine(url)
    assert rows(engine, "SELECT count(*) AS n FROM outbox_messages") == [{"n": 8}]
    assert rows(engine, "SELECT version_num FROM outbox_schema_version") == [{"version_num": "0001"}]
    engine.dispose()


def test_an_upgrade_killed_at_any_step_leaves_nothing_and_a_second_one_succeeds(tmp_path: Path, box: Outbox) -> None:
    paths: list[Path] = []
    complete = rows(box.engine, SCHEMA.replace("ORDER", "WHERE name <> 'things' ORDER"))

    def check_last() -> None:
        engine = open_engine(f"sqlite:///{paths[-1]}")
        left = rows(engine, SCHEMA)
        assert left in ([], complete)
        outbox.upgrade(engine)
        assert rows(engine, SCHEMA) == complete
        engine.dispose()

    def arrange() -> tuple[str]:
        if paths:
            check_last()
        paths.append(tmp_path / f"{len(paths)}.db")
        return (f"sqlite:///{paths[-1]}",)

    kills = run_killed_at_each_step(upgrade, arrange)

    assert kills > 8
    check_last()


@pytest.mark.parametrize("version", ["0002", "9999"])
def test_a_database_of_a_later_release_is_refused_by_name_and_left_as_it_is(box: Outbox, version: str) -> None:
    write(box.engine, "UPDATE outbox_schema_version SET version_num = :version", version=version)
    before = rows(box.engine, SCHEMA)

    with pytest.raises(SchemaRefusedError, match=rf"outbox\.db was upgraded by a later release.*{version}"):
        outbox.upgrade(box.engine)

    assert rows(box.engine, SCHEMA) == before
    assert rows(box.engine, "SELECT * FROM outbox_schema_version") == [{"version_num": version}]


def test_an_upgrade_waits_for_a_writer_and_then_finds_what_it_did(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'a.db'}", busy_timeout=0)
    outbox.upgrade(engine)

    with writing(engine) as connection:
        connection.exec_driver_sql("DELETE FROM outbox_leases")
        with pytest.raises(Exception, match="database is locked"):
            outbox.upgrade(engine)

    outbox.upgrade(engine)
    engine.dispose()
