"""Creating and upgrading the outbox: all or nothing, by any number of processes, at any moment."""

from contextlib import ExitStack
from pathlib import Path

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

import outbox
from outbox import SchemaRefusedError, open_engine
from tests.conftest import rows, write
from tests.crash import run_killed_at_each_step
from tests.databases import database_url
from tests.outbox.conftest import Outbox, opened
from tests.outbox.processes import run_together

SCHEMA = {
    "sqlite": "SELECT type, name, sql FROM sqlite_master ORDER BY type, name",
    "postgresql": """
        SELECT c.relkind::text AS type, c.relname AS name, c.reloptions::text AS options, d.defined
        FROM pg_class AS c, LATERAL (
            SELECT pg_get_indexdef(c.oid) WHERE c.relkind = 'i'
            UNION ALL SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = c.oid
            UNION ALL SELECT concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity,
                                       (SELECT collname FROM pg_collation WHERE oid = attcollation))
            FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0
        ) AS d (defined)
        WHERE c.relnamespace = 'public'::regnamespace ORDER BY type, name, defined
    """,
}


def schema(engine: Engine) -> list[dict[str, object]]:
    return rows(engine, SCHEMA[engine.dialect.name])


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
    before = schema(box.engine), box.rows()

    outbox.upgrade(box.engine)

    assert (schema(box.engine), box.rows()) == before


def test_an_upgrade_keeps_the_tables_of_others(tmp_path: Path, backend: str) -> None:
    with database_url(backend, tmp_path, "daemon.db") as url, opened(url) as engine:
        write(engine, "CREATE TABLE alembic_version (version_num TEXT)")
        write(engine, "INSERT INTO alembic_version VALUES ('the daemon''s own')")

        outbox.upgrade(engine)

        assert rows(engine, "SELECT * FROM alembic_version") == [{"version_num": "the daemon's own"}]


@pytest.mark.only("sqlite", because="PostgreSQL has no switch for foreign keys")
def test_an_upgrade_leaves_foreign_keys_on(box: Outbox) -> None:
    outbox.upgrade(box.engine)

    assert rows(box.engine, "PRAGMA foreign_keys") == [{"foreign_keys": 1}]


@pytest.mark.parametrize("table", ["outbox_messages", "outbox_leases", "outbox_relays"])
def test_a_table_of_another_origin_under_one_of_our_names_is_refused_and_left_as_it_is(
    tmp_path: Path, backend: str, table: str
) -> None:
    with database_url(backend, tmp_path, "daemon.db") as url, opened(url) as engine:
        write(engine, f"CREATE TABLE {table} (mine TEXT)")
        write(engine, f"INSERT INTO {table} VALUES ('kept')")
        before = schema(engine)

        with pytest.raises(SchemaRefusedError, match=f"has tables of another origin: {table}; rename them"):
            outbox.upgrade(engine)

        assert schema(engine) == before
        assert rows(engine, f"SELECT mine FROM {table}") == [{"mine": "kept"}]


def test_processes_that_open_and_create_one_new_database_at_once_all_succeed(tmp_path: Path, backend: str) -> None:
    with database_url(backend, tmp_path, "new.db") as url:
        run_together(8, create_and_write, url)

        with opened(url) as engine:
            assert rows(engine, "SELECT count(*) AS n FROM outbox_messages") == [{"n": 8}]
            assert rows(engine, "SELECT version_num FROM outbox_schema_version") == [{"version_num": "0002"}]


def test_an_upgrade_waits_for_another_no_longer_than_its_busy_timeout_and_then_finds_what_it_did(
    tmp_path: Path, backend: str
) -> None:
    with (
        database_url(backend, tmp_path, "new.db") as url,
        opened(url) as engine,
        opened(url, busy_timeout=0) as impatient,
    ):
        refused: list[str] = []

        @event.listens_for(engine, "commit")
        def upgrade_too(_connection: object) -> None:
            with pytest.raises(OperationalError, match=r"database is locked|lock timeout") as raised:
                outbox.upgrade(impatient)
            refused.append(str(raised.value))

        outbox.upgrade(engine)
        outbox.upgrade(impatient)

        assert len(refused) == 1
        assert rows(impatient, "SELECT version_num FROM outbox_schema_version") == [{"version_num": "0002"}]


def test_an_upgrade_killed_at_any_step_leaves_nothing_and_a_second_one_succeeds(
    tmp_path: Path, backend: str, box: Outbox
) -> None:
    write(box.engine, "DROP TABLE things")
    complete = schema(box.engine)
    urls: list[str] = []

    def check_last() -> None:
        with opened(urls[-1]) as engine:
            assert schema(engine) in ([], complete)
            outbox.upgrade(engine)
            assert schema(engine) == complete

    with ExitStack() as stack:

        def arrange() -> tuple[str]:
            if urls:
                check_last()
            urls.append(stack.enter_context(database_url(backend, tmp_path, f"{len(urls)}.db")))
            return (urls[-1],)

        kills = run_killed_at_each_step(upgrade, arrange)
        check_last()

    assert kills > 8


@pytest.mark.parametrize("version", ["0003", "9999"])
def test_a_database_of_a_later_release_is_refused_by_name_and_left_as_it_is(box: Outbox, version: str) -> None:
    write(box.engine, "UPDATE outbox_schema_version SET version_num = :version", version=version)
    before = schema(box.engine)

    with pytest.raises(
        SchemaRefusedError, match=rf"{box.engine.url.database} was upgraded by a later release.*{version}"
    ):
        outbox.upgrade(box.engine)

    assert schema(box.engine) == before
    assert rows(box.engine, "SELECT * FROM outbox_schema_version") == [{"version_num": version}]
