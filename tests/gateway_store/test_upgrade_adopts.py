"""The upgrade keeps every row of every shape found in the field, and ends with one schema."""

from pathlib import Path

import pytest
from sqlalchemy.orm import Session

import gateway_store
from gateway_store import ImmutableFieldError, Mirrored
from outbox import open_engine
from tests.conftest import rows, write
from tests.gateway_store.examples import OTHER_HASH, TOKEN_HASH, deliver, payload
from tests.gateway_store.shapes import (
    ADDED_COLUMNS,
    OLD_COLUMNS,
    SHAPES,
    WITH_INVITES,
    adopted,
    content,
    invites_in,
    make,
    query,
    schema,
    upgrade,
)

CHILD = """
    CREATE TABLE uses (id INTEGER PRIMARY KEY, invite TEXT REFERENCES ingress_invites (id) ON DELETE CASCADE);
    INSERT INTO uses VALUES (1, 'inv-000000'), (2, 'inv-000001'), (3, 'inv-000001');
"""
ORPHAN = "UPDATE ingress_invites SET contact_id = 'gone' WHERE id = 'inv-000003'"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "gateway.db"


def test_a_fresh_database_gets_both_tables_and_nothing_in_them(path: Path) -> None:
    upgrade(path)
    assert query(path, "SELECT * FROM contacts") == query(path, "SELECT * FROM ingress_invites") == []


def test_the_final_schema_is_the_same_from_every_starting_shape(tmp_path: Path) -> None:
    found = {}
    for shape in SHAPES:
        path = tmp_path / f"{shape}.db"
        make(path, shape, invites=3 if shape in WITH_INVITES else 0)
        upgrade(path)
        found[shape] = schema(path)
    assert all(one == found["fresh"] for one in found.values()), found


def test_the_final_schema_says_what_the_design_says(path: Path) -> None:
    upgrade(path)
    found = schema(path)
    required = {name for _, name, _, not_null, _, _ in found["columns"] if not_null}
    assert {name for _, name, *_ in found["columns"]} == {*OLD_COLUMNS, *ADDED_COLUMNS}
    assert required == {"id", "source_channel", "max_uses", "use_count", "expires_at", "status", "contact_id"} | {
        "created_at",
        "updated_at",
    }
    assert found["foreign keys"] == [(0, 0, "contacts", "contact_id", "id", "NO ACTION", "CASCADE", "NONE")]


def test_the_old_shape_keeps_every_value_and_knows_no_token(path: Path) -> None:
    make(path, "old", invites=50)
    before, contacts = invites_in(path, OLD_COLUMNS), query(path, "SELECT * FROM contacts")
    upgrade(path)
    assert invites_in(path, OLD_COLUMNS) == adopted(before)
    assert invites_in(path, ADDED_COLUMNS) == [(None,) * len(ADDED_COLUMNS)] * 50
    assert query(path, "SELECT * FROM contacts") == contacts


def test_a_hundred_thousand_old_rows_all_survive(path: Path) -> None:
    make(path, "old", invites=100_000)
    before = invites_in(path, OLD_COLUMNS)
    upgrade(path)
    assert invites_in(path, OLD_COLUMNS) == adopted(before)
    assert query(path, "SELECT count(*) FROM ingress_invites WHERE token_hash IS NULL") == [(100_000,)]


@pytest.mark.parametrize("shape", ["all columns, code NOT NULL", "all columns"])
def test_a_shape_with_all_columns_keeps_every_value_and_an_empty_code_becomes_none(path: Path, shape: str) -> None:
    make(path, shape, invites=50)
    before = invites_in(path, OLD_COLUMNS + ADDED_COLUMNS)
    upgrade(path)
    assert invites_in(path, OLD_COLUMNS + ADDED_COLUMNS) == adopted(before)
    assert query(path, "SELECT count(*) FROM ingress_invites WHERE invite_code_hash IS NULL") == [(16,)]


def test_a_code_that_is_null_already_stays_null(path: Path) -> None:
    make(path, "all columns", "UPDATE ingress_invites SET invite_code_hash = NULL WHERE id = 'inv-000000'", invites=2)
    upgrade(path)
    assert [code is None for (code,) in invites_in(path, ["invite_code_hash"])] == [True, False]


@pytest.mark.parametrize("shape", WITH_INVITES)
def test_an_invite_whose_contact_is_gone_keeps_existing(path: Path, shape: str) -> None:
    make(path, shape, ORPHAN, invites=5)
    upgrade(path)
    assert query(path, "SELECT contact_id FROM ingress_invites WHERE id = 'inv-000003'") == [("gone",)]
    assert query(path, "SELECT count(*) FROM ingress_invites") == [(5,)]


@pytest.mark.parametrize("shape", WITH_INVITES)
def test_tables_that_refer_to_the_invites_keep_their_rows_and_still_refer(path: Path, shape: str) -> None:
    make(path, shape, CHILD, invites=5)
    upgrade(path)
    assert query(path, "SELECT id, invite FROM uses") == [(1, "inv-000000"), (2, "inv-000001"), (3, "inv-000001")]
    engine = open_engine(f"sqlite:///{path}")
    write(engine, "DELETE FROM ingress_invites WHERE id = 'inv-000001'")
    assert rows(engine, "SELECT id FROM uses") == [{"id": 1}]
    engine.dispose()


@pytest.mark.parametrize("shape", WITH_INVITES)
def test_indexes_views_and_triggers_of_others_survive(path: Path, shape: str) -> None:
    make(
        path,
        shape,
        "CREATE INDEX mine ON ingress_invites (note) WHERE note IS NOT NULL",
        "CREATE UNIQUE INDEX mine_too ON ingress_invites (id, status)",
        "CREATE VIEW open_invites AS SELECT id FROM ingress_invites WHERE status = 'active'",
        "CREATE TRIGGER named AFTER UPDATE ON contacts BEGIN UPDATE ingress_invites SET note = new.display_name; END",
        invites=5,
    )
    others = (
        "SELECT name, sql FROM sqlite_master WHERE name IN ('mine', 'mine_too', 'open_invites', 'named') ORDER BY 1"
    )
    before = query(path, others)
    upgrade(path)
    assert query(path, others) == before
    assert query(path, "SELECT id FROM open_invites ORDER BY id") == [("inv-000000",), ("inv-000004",)]


@pytest.mark.parametrize("shape", SHAPES)
def test_upgrading_twice_is_harmless(path: Path, shape: str) -> None:
    make(path, shape, invites=5 if shape in WITH_INVITES else 0)
    upgrade(path)
    before = content(path)
    upgrade(path)
    assert content(path) == before


@pytest.mark.parametrize("shape", WITH_INVITES)
def test_an_upgraded_database_is_sound(path: Path, shape: str) -> None:
    make(path, shape, CHILD, invites=50)
    upgrade(path)
    assert query(path, "PRAGMA integrity_check") == [("ok",)]
    assert query(path, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize("shape", SHAPES)
def test_foreign_keys_are_enforced_again_on_the_engine_that_upgraded(path: Path, shape: str) -> None:
    make(path, shape, invites=4 if shape in WITH_INVITES else 0)
    engine = open_engine(f"sqlite:///{path}")
    gateway_store.upgrade(engine)
    assert rows(engine, "PRAGMA foreign_keys") == [{"foreign_keys": 1}]
    with Session(engine) as session, session.begin():
        gateway_store.upsert_contact(session, id="co-1", display_name="Ada")
        gateway_store.mirror_create(session, payload())
    write(engine, "DELETE FROM contacts WHERE id = 'co-1'")
    assert rows(engine, "SELECT id FROM ingress_invites WHERE contact_id = 'co-1'") == []
    engine.dispose()


def test_mirroring_over_an_old_row_fills_its_token_once_and_for_all(path: Path) -> None:
    make(path, "old", invites=1)
    upgrade(path)
    engine = open_engine(f"sqlite:///{path}")
    same = {"id": "inv-000000", "inviteCodeHash": "0" * 64, "maxUses": 3, "createdAt": 0}
    assert deliver(engine, payload(**same)).status is Mirrored.ADVANCED
    assert rows(engine, "SELECT token_hash FROM ingress_invites") == [{"token_hash": TOKEN_HASH}]
    with pytest.raises(ImmutableFieldError, match="another token_hash;"):
        deliver(engine, payload(**same, tokenHash=OTHER_HASH))
    assert rows(engine, "SELECT token_hash FROM ingress_invites") == [{"token_hash": TOKEN_HASH}]
    engine.dispose()


def test_an_old_row_that_is_closed_stays_closed_when_an_open_state_is_mirrored_over_it(path: Path) -> None:
    make(path, "old", invites=4)
    upgrade(path)
    engine = open_engine(f"sqlite:///{path}")
    deliver(engine, payload(id="inv-000003", inviteCodeHash=f"{3:064x}", maxUses=3, createdAt=3))
    found = rows(
        engine, "SELECT status, use_count, redeemed_by_external_user_id FROM ingress_invites WHERE id = 'inv-000003'"
    )
    assert found == [{"status": "redeemed", "use_count": 1, "redeemed_by_external_user_id": "u3"}]
    engine.dispose()
