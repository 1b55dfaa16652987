"""A database with the real gateway's marks is left alone, unless it is taken over; once taken over it is ours."""

import stat
import threading
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

import gateway_store
from gateway_store import OwnedByAnotherProgramError
from outbox import open_engine
from tests.gateway_store.catalogue import content, query, run
from tests.gateway_store.shapes import SHAPES, make, upgrade

MARKS = {
    "its own record": "CREATE TABLE one_time_migrations (key TEXT PRIMARY KEY, ran_at BIGINT)",
    "its library's record": "CREATE TABLE __drizzle_migrations (id BIGINT PRIMARY KEY, hash TEXT)",
}
IN_ITS_SCHEMA = "CREATE SCHEMA drizzle; CREATE TABLE drizzle.__drizzle_migrations (id BIGINT PRIMARY KEY)"
OTHERS = (
    "CREATE TABLE migrations (id BIGINT)",
    "CREATE TABLE knex_migrations (id BIGINT)",
    "CREATE TABLE one_time_migrations_log (id BIGINT)",
    "CREATE VIEW one_time_migrations AS SELECT 1 AS one",
)


def refused(url: str) -> str:
    before = content(url)
    with pytest.raises(OwnedByAnotherProgramError) as caught:
        upgrade(url)
    assert content(url) == before
    return str(caught.value)


def take_over(url: str) -> None:
    engine = open_engine(url)
    try:
        gateway_store.upgrade(engine, take_over=True)
    finally:
        engine.dispose()


@pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_database_with_a_mark_is_refused_unchanged_with_both_ways_out(url: str, shape: str, mark: str) -> None:
    make(url, shape, mark, invites=0 if shape in ("fresh", "contacts only") else 2)
    said = refused(url)
    assert str(make_url(url).database) in said
    assert mark.split()[2] in said
    for words in ("unix:///PATH", "--take-over", "never start the other program on it again", "Nothing was changed"):
        assert words in said


@pytest.mark.only("postgresql", because="SQLite has no schemas")
def test_a_mark_in_its_librarys_own_schema_counts(url: str) -> None:
    make(url, "all columns", IN_ITS_SCHEMA, invites=2)
    assert "__drizzle_migrations" in refused(url)


@pytest.mark.only("postgresql", because="SQLite has no schemas")
def test_a_mark_in_the_schema_of_another_program_does_not_count(url: str) -> None:
    make(url, "all columns", "CREATE SCHEMA crm; CREATE TABLE crm.one_time_migrations (key TEXT)", invites=2)
    upgrade(url)
    assert query(url, "SELECT count(*) FROM ingress_invites") == [(2,)]


@pytest.mark.only("sqlite", because="only SQLite's names ignore case")
def test_a_mark_counts_however_it_is_written(url: str) -> None:
    make(url, "all columns", 'CREATE TABLE "One_Time_Migrations" (key TEXT)', invites=2)
    assert "one_time_migrations" in refused(url)


@pytest.mark.parametrize("other", OTHERS)
def test_other_tables_of_other_programs_are_no_mark(url: str, other: str) -> None:
    make(url, "all columns", other, invites=2)
    upgrade(url)
    assert query(url, "SELECT count(*) FROM ingress_invites") == [(2,)]


@pytest.mark.only("sqlite", because="a server's database is no file")
@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_a_refused_file_keeps_its_bytes_its_rights_and_its_kind_of_log(url: str, journal: str) -> None:
    make(url, "all columns", MARKS["its own record"], f"PRAGMA journal_mode={journal}", invites=2)
    path = Path(str(make_url(url).database))
    path.chmod(0o644)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(OwnedByAnotherProgramError):
        upgrade(url)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_taken_over_every_row_is_kept_and_later_upgrades_need_no_word(url: str) -> None:
    make(url, "all columns", *MARKS.values(), invites=5)
    take_over(url)
    before = content(url)
    upgrade(url)
    assert content(url) == before
    assert query(url, "SELECT count(*) FROM ingress_invites") == [(5,)]


def test_once_the_other_program_has_dropped_our_tables_it_owns_the_database_again(url: str) -> None:
    make(url, "all columns", *MARKS.values(), invites=5)
    take_over(url)
    run(url, "DROP TABLE gateway_store_schema_version")
    assert "--take-over" in refused(url)


def test_without_a_mark_there_is_nothing_to_take_over(url: str) -> None:
    make(url, "old", invites=5)
    take_over(url)
    assert query(url, "SELECT count(*) FROM ingress_invites") == [(5,)]


@pytest.mark.only("postgresql", because="on SQLite nobody can see that it waits for the lock")
def test_a_mark_made_while_the_upgrade_waits_for_its_turn_is_seen(url: str) -> None:
    make(url, "all columns", invites=2)
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            upgrade(url)
        except OwnedByAnotherProgramError as error:
            caught.append(error)

    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    thread = threading.Thread(target=attempt)
    with psycopg.connect(plain) as other:
        other.execute("SELECT pg_advisory_xact_lock(x'75706772616465'::bigint)")
        thread.start()
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        while other.execute(waiting).fetchone() is None:
            assert thread.is_alive()
        other.execute(MARKS["its own record"])
    thread.join()
    assert len(caught) == 1
    assert query(url, "SELECT to_regclass('store_identity')") == [(None,)]
