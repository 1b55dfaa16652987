"""The daemon's existing table is adopted as it stands."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from assistant_store import create_invite, expire_invite, record_invite_use, revoke_invite, upgrade
from outbox import open_engine
from tests.assistant_store.daemon import TABLE, as_stored, definitions, invite_row, make_daemon_database
from tests.conftest import rows
from tests.crash import run_killed_at_each_step
from tests.databases import database_url
from tests.gateway_store.catalogue import query, run, tables

ALL_TABLES = [
    TABLE,
    "assistant_store_schema_version",
    "outbox_identity",
    "outbox_leases",
    "outbox_messages",
    "outbox_relays",
    "outbox_routes",
    "outbox_schema_version",
]
OF_THE_DAEMON = {
    "sqlite": f"CREATE TRIGGER watch AFTER UPDATE ON {TABLE} BEGIN INSERT INTO seen VALUES (new.id); END",
    "postgresql": f"""
        CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO seen VALUES (new.id); RETURN NULL; END $$;
        CREATE TRIGGER watch AFTER UPDATE ON {TABLE} FOR EACH ROW EXECUTE FUNCTION watch()
    """,
}


def upgrade_by_url(url: str) -> None:
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()


@contextmanager
def upgraded(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        upgrade(engine)
        yield engine
    finally:
        engine.dispose()


def test_an_existing_table_and_all_its_rows_stay_byte_for_byte(daemon_url: str) -> None:
    before = as_stored(daemon_url)

    upgrade_by_url(daemon_url)
    upgrade_by_url(daemon_url)

    assert as_stored(daemon_url) == before
    assert tables(daemon_url) == ALL_TABLES
    assert query(daemon_url, "SELECT * FROM outbox_messages") == []


def test_an_adopted_table_takes_new_invites_and_changes_of_old_ones(daemon_url: str) -> None:
    with upgraded(daemon_url) as engine:
        with Session(engine) as session, session.begin():
            created = create_invite(session, source_channel="telegram", contact_id="co-1").invite
            used = record_invite_use(session, "invite-1", external_user_id="user-1")
            revoked = revoke_invite(session, "invite-2")
            expired = expire_invite(session, "invite-3")
        messages = rows(engine, "SELECT key, version FROM outbox_messages ORDER BY seq")

    changed = [one for one in (created, used, revoked, expired) if one is not None]
    assert [one.status for one in changed] == ["active", "active", "revoked", "expired"]
    assert (changed[1].note, changed[1].use_count) == ("für 1 😀", 1)
    assert messages == [{"key": one.id, "version": one.updated_at} for one in changed]


def test_indexes_views_and_triggers_of_the_daemons_stay(daemon_url: str, backend: str) -> None:
    run(
        daemon_url,
        f"CREATE UNIQUE INDEX mine ON {TABLE} (token_hash)",
        f"CREATE VIEW mine_open AS SELECT id FROM {TABLE} WHERE status = 'active'",
        "CREATE TABLE seen (id TEXT)",
        OF_THE_DAEMON[backend],
    )
    before = as_stored(daemon_url)

    upgrade_by_url(daemon_url)

    assert as_stored(daemon_url) == before
    with upgraded(daemon_url) as engine:
        with Session(engine) as session, session.begin():
            revoke_invite(session, "invite-1")
        assert rows(engine, "SELECT id FROM seen") == [{"id": "invite-1"}]
        assert len(rows(engine, "SELECT id FROM mine_open")) == 49


@pytest.mark.parametrize(
    "odd",
    [
        {"note": "VARCHAR(200)", "max_uses": "BIGINT NOT NULL", "use_count": "INT NOT NULL"},
        {"id": "VARCHAR(36) PRIMARY KEY", "voice_code_digits": "SMALLINT", "status": "VARCHAR NOT NULL"},
    ],
)
def test_other_names_of_the_same_kinds_are_adopted(url: str, backend: str, odd: dict[str, str]) -> None:
    make_daemon_database(url, definitions(backend) | odd)

    with upgraded(url) as engine, Session(engine) as session, session.begin():
        invite = create_invite(session, source_channel="telegram", contact_id="co-1").invite
        used = record_invite_use(session, invite.id)

    assert used is not None
    assert used.status == "redeemed"


def test_a_new_table_has_the_shape_that_is_adopted(url: str) -> None:
    upgrade_by_url(url)
    before = as_stored(url)
    run(url, "DROP TABLE assistant_store_schema_version")

    upgrade_by_url(url)

    assert as_stored(url) == before


def test_an_upgrade_killed_at_any_step_keeps_every_invite_and_a_second_one_succeeds(
    tmp_path: Path, backend: str
) -> None:
    urls: list[str] = []
    whole: list[object] = []

    def check_last() -> None:
        assert tables(urls[-1]) in ([TABLE], ALL_TABLES)
        assert as_stored(urls[-1]) == whole[-1]
        upgrade_by_url(urls[-1])
        assert as_stored(urls[-1]) == whole[-1]
        assert tables(urls[-1]) == ALL_TABLES

    def arrange() -> tuple[str]:
        if urls:
            check_last()
        urls.append(databases.enter_context(database_url(backend, tmp_path, f"{len(urls)}.db")))
        make_daemon_database(urls[-1], definitions(backend), [invite_row(number) for number in range(3)])
        whole.append(as_stored(urls[-1]))
        return (urls[-1],)

    with ExitStack() as databases:
        kills = run_killed_at_each_step(upgrade_by_url, arrange)
        check_last()

    assert kills > 15
