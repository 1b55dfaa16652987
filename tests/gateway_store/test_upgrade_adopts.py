"""The upgrade keeps every row of every shape found in the field, and ends with one schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import gateway_store
from gateway_store import ImmutableFieldError, Mirrored
from outbox import open_engine
from tests.conftest import rows, write
from tests.databases import database_url
from tests.gateway_store.catalogue import content, query, schema
from tests.gateway_store.examples import OTHER_HASH, TOKEN_HASH, deliver, payload
from tests.gateway_store.shapes import (
    ADDED_COLUMNS,
    CHILD,
    OLD_COLUMNS,
    SHAPES,
    WITH_INVITES,
    adopted,
    invites_in,
    make,
    upgrade,
)

# One of them has '' as its code.
ORPHANS = "UPDATE ingress_invites SET contact_id = 'gone' WHERE id IN ('inv-000002', 'inv-000003')"


@contextmanager
def upgraded(url: str) -> Iterator[Engine]:
    engine = open_engine(url)
    try:
        gateway_store.upgrade(engine)
        yield engine
    finally:
        engine.dispose()


def test_a_fresh_database_gets_both_tables_and_nothing_in_them(url: str) -> None:
    upgrade(url)
    assert query(url, "SELECT * FROM contacts") == query(url, "SELECT * FROM ingress_invites") == []


def test_the_final_schema_is_the_same_from_every_starting_shape(tmp_path: Path, backend: str) -> None:
    found = {}
    for shape in SHAPES:
        with database_url(backend, tmp_path, f"{shape}.db") as url:
            make(url, shape, invites=3 if shape in WITH_INVITES else 0)
            upgrade(url)
            found[shape] = schema(url)
    assert all(one == found["fresh"] for one in found.values()), found


def test_the_final_schema_says_what_the_design_says(url: str) -> None:
    upgrade(url)
    found = schema(url)
    required = {name for name, (_, nullable, _) in found["columns"].items() if not nullable}
    assert found["columns"].keys() == {*OLD_COLUMNS, *ADDED_COLUMNS}
    assert {kind for kind, *_ in found["columns"].values()} == {"TEXT", "BIGINT"}
    assert required == {"id", "source_channel", "max_uses", "use_count", "expires_at", "status", "contact_id"} | {
        "created_at",
        "updated_at",
    }
    assert found["key"] == ["id"]
    assert found["foreign keys"] == [("contact_id", "contacts", "id", "CASCADE")]


def test_the_old_shape_keeps_every_value_and_knows_no_token(url: str) -> None:
    make(url, "old", invites=50)
    before, contacts = invites_in(url, OLD_COLUMNS), query(url, "SELECT * FROM contacts ORDER BY id")
    upgrade(url)
    assert invites_in(url, OLD_COLUMNS) == adopted(before)
    assert invites_in(url, ADDED_COLUMNS) == [(None,) * len(ADDED_COLUMNS)] * 50
    assert query(url, "SELECT * FROM contacts ORDER BY id") == contacts


def test_a_hundred_thousand_old_rows_all_survive(url: str) -> None:
    make(url, "old", invites=100_000)
    before = invites_in(url, OLD_COLUMNS)
    upgrade(url)
    assert invites_in(url, OLD_COLUMNS) == adopted(before)
    assert query(url, "SELECT count(*) FROM ingress_invites WHERE token_hash IS NULL") == [(100_000,)]


@pytest.mark.parametrize("shape", ["all columns, code NOT NULL", "all columns"])
def test_a_shape_with_all_columns_keeps_every_value_and_an_empty_code_becomes_none(url: str, shape: str) -> None:
    make(url, shape, invites=50)
    before = invites_in(url, OLD_COLUMNS + ADDED_COLUMNS)
    upgrade(url)
    assert invites_in(url, OLD_COLUMNS + ADDED_COLUMNS) == adopted(before)
    assert query(url, "SELECT count(*) FROM ingress_invites WHERE invite_code_hash IS NULL") == [(16,)]


def test_a_code_that_is_null_already_stays_null(url: str) -> None:
    make(url, "all columns", "UPDATE ingress_invites SET invite_code_hash = NULL WHERE id = 'inv-000000'", invites=2)
    upgrade(url)
    assert [code is None for (code,) in invites_in(url, ["invite_code_hash"])] == [True, False]


@pytest.mark.parametrize("shape", WITH_INVITES)
def test_an_invite_whose_contact_is_gone_keeps_existing(url: str, shape: str) -> None:
    make(url, shape, ORPHANS, invites=5)
    upgrade(url)
    gone = query(url, "SELECT id FROM ingress_invites WHERE contact_id = 'gone' ORDER BY id")
    assert gone == [("inv-000002",), ("inv-000003",)]
    assert query(url, "SELECT count(*) FROM ingress_invites") == [(5,)]


@pytest.mark.parametrize("shape", WITH_INVITES)
def test_tables_that_refer_to_the_invites_keep_their_rows_and_still_refer(url: str, shape: str) -> None:
    make(url, shape, CHILD, invites=5)
    upgrade(url)
    assert query(url, "SELECT id, invite FROM uses ORDER BY id") == [
        (1, "inv-000000"),
        (2, "inv-000001"),
        (3, "inv-000001"),
    ]
    with upgraded(url) as engine:
        write(engine, "DELETE FROM ingress_invites WHERE id = 'inv-000001'")
        assert rows(engine, "SELECT id FROM uses") == [{"id": 1}]


@pytest.mark.parametrize("shape", SHAPES)
def test_upgrading_twice_is_harmless(url: str, shape: str) -> None:
    make(url, shape, invites=5 if shape in WITH_INVITES else 0)
    upgrade(url)
    before = content(url)
    upgrade(url)
    assert content(url) == before


@pytest.mark.only("sqlite", because="PostgreSQL has no such checks; it enforces both at every write")
@pytest.mark.parametrize("shape", WITH_INVITES)
def test_an_upgraded_database_is_sound(url: str, shape: str) -> None:
    make(url, shape, CHILD, invites=50)
    upgrade(url)
    assert query(url, "PRAGMA integrity_check") == [("ok",)]
    assert query(url, "PRAGMA foreign_key_check") == []


@pytest.mark.parametrize("shape", SHAPES)
def test_foreign_keys_are_enforced_on_the_engine_that_upgraded(url: str, shape: str) -> None:
    make(url, shape, invites=4 if shape in WITH_INVITES else 0)
    with upgraded(url) as engine:
        with Session(engine) as session, session.begin():
            gateway_store.upsert_contact(session, id="co-1", display_name="Ada")
            gateway_store.mirror_create(session, payload())
        write(engine, "DELETE FROM contacts WHERE id = 'co-1'")
        assert rows(engine, "SELECT id FROM ingress_invites WHERE contact_id = 'co-1'") == []


def test_mirroring_over_an_old_row_fills_its_token_once_and_for_all(url: str) -> None:
    make(url, "old", invites=1)
    same = {"id": "inv-000000", "inviteCodeHash": "0" * 64, "maxUses": 3, "createdAt": 0}
    with upgraded(url) as engine:
        assert deliver(engine, payload(**same)).status is Mirrored.ADVANCED
        assert rows(engine, "SELECT token_hash FROM ingress_invites") == [{"token_hash": TOKEN_HASH}]
        with pytest.raises(ImmutableFieldError, match="another token_hash;"):
            deliver(engine, payload(**same, tokenHash=OTHER_HASH))
        assert rows(engine, "SELECT token_hash FROM ingress_invites") == [{"token_hash": TOKEN_HASH}]


def test_an_old_row_that_is_closed_stays_closed_when_an_open_state_is_mirrored_over_it(url: str) -> None:
    make(url, "old", invites=4)
    query_closed = "SELECT status, use_count, redeemed_by_external_user_id AS by_user FROM ingress_invites WHERE id = "
    with upgraded(url) as engine:
        deliver(engine, payload(id="inv-000003", inviteCodeHash=f"{3:064x}", maxUses=3, createdAt=3))
        found = rows(engine, f"{query_closed}'inv-000003'")
    assert found == [{"status": "redeemed", "use_count": 1, "by_user": "u3"}]
