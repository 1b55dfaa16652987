"""The daemon's existing table is adopted as it stands, or refused by name with nothing touched."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from assistant_store import create_invite, record_invite_use, revoke_invite, upgrade
from outbox import SchemaRefusedError, open_engine
from tests.assistant_store.daemon import TABLE, definitions, invite_row, make_daemon_database
from tests.conftest import rows, write
from tests.crash import run_killed_at_each_step

Columns = dict[str, str]
SCHEMA_OF_INVITES = f"SELECT * FROM sqlite_master WHERE tbl_name = '{TABLE}' ORDER BY name"
EVERY_VALUE = f"SELECT rowid, {', '.join(f'typeof({name}), quote({name})' for name in definitions())} FROM {TABLE}"


def upgrade_by_url(url: str) -> None:
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()


def invites_as_stored(engine: Engine) -> tuple[object, object]:
    return rows(engine, SCHEMA_OF_INVITES), rows(engine, EVERY_VALUE)


def tables(engine: Engine) -> list[str]:
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name"
    return [row["name"] for row in rows(engine, query)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "daemon.db"
    make_daemon_database(path, definitions(), [invite_row(number) for number in range(1, 51)])
    return path


def test_an_existing_table_and_all_its_rows_stay_byte_for_byte(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}")
    before = invites_as_stored(engine)

    upgrade(engine)
    upgrade(engine)

    assert invites_as_stored(engine) == before
    assert tables(engine) == [
        TABLE,
        "assistant_store_schema_version",
        "outbox_leases",
        "outbox_messages",
        "outbox_relays",
        "outbox_schema_version",
    ]
    assert rows(engine, "SELECT * FROM outbox_messages") == []
    engine.dispose()


def test_an_adopted_table_takes_new_invites_and_changes_of_old_ones(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)

    with Session(engine) as session, session.begin():
        created = create_invite(session, source_channel="telegram", contact_id="co-1").invite
        used = record_invite_use(session, "invite-1", external_user_id="user-1")
        revoked = revoke_invite(session, "invite-2")

    assert used is not None
    assert revoked is not None
    assert (used.note, used.use_count, used.status, revoked.status) == ("für 1 😀", 1, "active", "revoked")
    messages = rows(engine, "SELECT key, version FROM outbox_messages ORDER BY seq")
    assert messages == [{"key": one.id, "version": one.updated_at} for one in (created, used, revoked)]
    engine.dispose()


def test_wider_names_of_the_same_kinds_are_adopted(tmp_path: Path) -> None:
    columns = definitions() | {"note": "VARCHAR(200)", "max_uses": "BIGINT NOT NULL", "use_count": "INT NOT NULL"}
    make_daemon_database(tmp_path / "daemon.db", columns)
    engine = open_engine(f"sqlite:///{tmp_path / 'daemon.db'}")

    upgrade(engine)

    assert rows(engine, f"SELECT * FROM {TABLE}") == []
    engine.dispose()


def without_id_key(columns: Columns) -> Columns:
    return columns | {"id": "TEXT NOT NULL"}


def another_key(columns: Columns) -> Columns:
    return columns | {"id": "TEXT NOT NULL", "token_hash": "TEXT PRIMARY KEY"}


def without_status(columns: Columns) -> Columns:
    return {name: kind for name, kind in columns.items() if name != "status"}


def with_colour(columns: Columns) -> Columns:
    return columns | {"colour": "TEXT"}


def with_text_instants(columns: Columns) -> Columns:
    return columns | {"updated_at": "TEXT NOT NULL"}


def with_real_uses(columns: Columns) -> Columns:
    return columns | {"max_uses": "REAL NOT NULL"}


def with_blob_note(columns: Columns) -> Columns:
    return columns | {"note": "BLOB"}


def all_at_once(columns: Columns) -> Columns:
    return with_colour(with_text_instants(without_status(without_id_key(columns))))


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        (without_id_key, ["the primary key is missing, not id"]),
        (another_key, ["the primary key is token_hash, not id"]),
        (without_status, ["column status is missing"]),
        (with_colour, ["column colour is unknown"]),
        (with_text_instants, ["column updated_at is TEXT, not integer"]),
        (with_real_uses, ["column max_uses is REAL, not integer"]),
        (with_blob_note, ["column note is BLOB, not text"]),
        (
            all_at_once,
            [
                "the primary key is missing",
                "column status is missing",
                "column colour is unknown",
                "updated_at is TEXT",
            ],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_table_of_another_shape_is_refused_by_what_is_odd_and_nothing_is_touched(
    tmp_path: Path, odd: Callable[[Columns], Columns], named: list[str]
) -> None:
    columns = odd(definitions())
    row = {name: value for name, value in invite_row(1).items() if name in columns}
    make_daemon_database(tmp_path / "daemon.db", columns, [row])
    engine = open_engine(f"sqlite:///{tmp_path / 'daemon.db'}")
    before = rows(engine, "SELECT * FROM sqlite_master"), rows(engine, f"SELECT * FROM {TABLE}")

    with pytest.raises(SchemaRefusedError, match=f"^{TABLE} in .*daemon.db has a shape that") as raised:
        upgrade(engine)

    assert all(one in str(raised.value) for one in named)
    assert (rows(engine, "SELECT * FROM sqlite_master"), rows(engine, f"SELECT * FROM {TABLE}")) == before
    engine.dispose()


def test_a_new_table_has_the_shape_that_is_adopted(tmp_path: Path) -> None:
    engine = open_engine(f"sqlite:///{tmp_path / 'new.db'}")
    upgrade(engine)
    before = invites_as_stored(engine)
    write(engine, "DROP TABLE assistant_store_schema_version")

    upgrade(engine)

    assert invites_as_stored(engine) == before
    engine.dispose()


def test_a_store_of_a_later_release_is_refused_and_left_as_it_is(path: Path) -> None:
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)
    write(engine, "UPDATE assistant_store_schema_version SET version_num = '0042'")
    before = rows(engine, "SELECT * FROM sqlite_master")

    with pytest.raises(SchemaRefusedError, match=r"daemon\.db was upgraded by a later release.*0042"):
        upgrade(engine)

    assert rows(engine, "SELECT * FROM sqlite_master") == before
    engine.dispose()


def test_an_upgrade_killed_at_any_step_keeps_every_invite_and_a_second_one_succeeds(tmp_path: Path) -> None:
    paths: list[Path] = []

    def check_last() -> None:
        engine = open_engine(f"sqlite:///{paths[-1]}")
        whole = rows(engine, EVERY_VALUE)
        upgrade(engine)
        assert rows(engine, EVERY_VALUE) == whole
        assert len(whole) == 3
        assert len(tables(engine)) == 6
        engine.dispose()

    def arrange() -> tuple[str]:
        if paths:
            check_last()
        paths.append(tmp_path / f"{len(paths)}.db")
        make_daemon_database(paths[-1], definitions(), [invite_row(number) for number in range(3)])
        return (f"sqlite:///{paths[-1]}",)

    kills = run_killed_at_each_step(upgrade_by_url, arrange)
    check_last()

    assert kills > 15
