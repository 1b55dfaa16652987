"""A database of no known shape is refused by name of what is odd, and nothing in it is changed."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from outbox import SchemaRefusedError
from tests.gateway_store.shapes import CONTACTS, SHAPES, content, make, query, upgrade

OLD = SHAPES["old"]

CHANGED_AFTERWARDS = {
    "an unknown column": ("ALTER TABLE ingress_invites ADD COLUMN colour TEXT", "column colour is unknown"),
    "some of the new columns": (
        "ALTER TABLE ingress_invites ADD COLUMN token_hash TEXT",
        "column voice_code_hash is missing",
    ),
    "a missing column": ("ALTER TABLE ingress_invites DROP COLUMN note", "column note is missing"),
    "a trigger": ("CREATE TRIGGER watch AFTER UPDATE ON ingress_invites BEGIN SELECT 1; END", r"triggers \(watch\)"),
    "the new table's name in use": ("CREATE TABLE ingress_invites_new (x)", "table ingress_invites_new"),
    "an index's name in use": (
        "CREATE INDEX idx_ingress_invites_token_lookup ON contacts (role)",
        "index idx_ingress_invites_token_lookup",
    ),
}
MADE_OTHERWISE = {
    "text for an integer": ("expires_at INTEGER", "expires_at TEXT", "column expires_at is TEXT, not integer"),
    "an integer for text": ("note TEXT", "note INTEGER", "column note is INTEGER, not text"),
    "a blob": ("note TEXT", "note BLOB", "column note is BLOB, not text"),
    "no primary key": ("id TEXT PRIMARY KEY NOT NULL, source", "id TEXT NOT NULL, source", "primary key is missing"),
    "another primary key": (
        "id TEXT PRIMARY KEY NOT NULL, source_channel TEXT NOT NULL",
        "id TEXT NOT NULL, source_channel TEXT NOT NULL PRIMARY KEY",
        "the primary key is source_channel, not id",
    ),
    "no foreign key": ("REFERENCES contacts (id) ON DELETE CASCADE", "", r"must have one foreign key.+found \[\]"),
    "a foreign key to something else": ("REFERENCES contacts", "REFERENCES people", "found .+'people'"),
    "a second foreign key": ("note TEXT", "note TEXT REFERENCES contacts (id)", "found .+'note', 'contacts'"),
    "no contacts": (CONTACTS, "", "has ingress_invites but no contacts"),
    "contacts without a column": (
        "principal_id TEXT",
        "boss_id TEXT",
        "contacts in .+: column principal_id is missing",
    ),
    "contacts without a key": ("id TEXT PRIMARY KEY NOT NULL, display", "id TEXT, display", "primary key is missing"),
    "contacts with a column that must be given": (
        "colour TEXT);",
        "colour TEXT NOT NULL ON CONFLICT IGNORE);",
        "column colour is unknown and must be given",
    ),
    "the name in other letters": ("ingress_invites", "Ingress_Invites", "table Ingress_Invites"),
}


def refused_unchanged(path: Path, words: str) -> None:
    before = content(path)
    with pytest.raises(SchemaRefusedError, match=words) as refused:
        upgrade(path)
    assert "Nothing was changed" in str(refused.value) or "nothing was changed" in str(refused.value)
    assert str(path) in str(refused.value)
    assert content(path) == before


def build(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(script)
        connection.commit()


@pytest.mark.parametrize(("change", "words"), CHANGED_AFTERWARDS.values(), ids=CHANGED_AFTERWARDS)
def test_an_altered_database_is_refused_unchanged(tmp_path: Path, change: str, words: str) -> None:
    path = tmp_path / "gateway.db"
    make(path, "old", invites=5)
    build(path, change)
    refused_unchanged(path, words)


@pytest.mark.parametrize(("known", "odd", "words"), MADE_OTHERWISE.values(), ids=MADE_OTHERWISE)
def test_a_database_of_another_make_is_refused_unchanged(tmp_path: Path, known: str, odd: str, words: str) -> None:
    path = tmp_path / "gateway.db"
    assert known in OLD
    build(path, OLD.replace(known, odd))
    refused_unchanged(path, words)


def test_a_refusal_names_all_that_is_odd_at_once(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    build(path, OLD.replace("note TEXT", "colour TEXT").replace("expires_at INTEGER", "expires_at TEXT"))
    refused_unchanged(path, "column note is missing; column colour is unknown; column expires_at is TEXT")


@pytest.mark.parametrize("shape", ["contacts only", "all columns"])
def test_odd_contacts_are_refused_whatever_the_invites_look_like(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "gateway.db"
    build(path, SHAPES[shape].replace("principal_id", "boss_id"))
    refused_unchanged(path, "column principal_id is missing")


def test_a_row_that_the_new_table_cannot_hold_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    build(
        path,
        OLD.replace("id TEXT PRIMARY KEY NOT NULL, source", "id TEXT PRIMARY KEY, source")
        + "INSERT INTO ingress_invites (source_channel, invite_code_hash, expires_at, contact_id,"
        " created_at, updated_at) VALUES ('telegram', 'h', 1, 'co-1', 1, 1);",
    )
    refused_unchanged(path, r"a row that cannot be kept: NOT NULL constraint failed: ingress_invites\w*\.id")


def test_a_view_of_the_tables_name_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    build(path, CONTACTS + "CREATE VIEW ingress_invites AS SELECT id FROM contacts;")
    refused_unchanged(path, "view ingress_invites")


def test_a_database_of_a_later_release_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    upgrade(path)
    build(path, "UPDATE gateway_store_schema_version SET version_num = '9999'")
    before = content(path)
    with pytest.raises(SchemaRefusedError, match="upgraded by a later release"):
        upgrade(path)
    assert content(path) == before


def test_a_refused_database_is_accepted_once_it_is_corrected(tmp_path: Path) -> None:
    path = tmp_path / "gateway.db"
    make(path, "old", invites=5)
    build(path, "ALTER TABLE ingress_invites ADD COLUMN colour TEXT")
    with pytest.raises(SchemaRefusedError):
        upgrade(path)
    build(path, "ALTER TABLE ingress_invites DROP COLUMN colour")
    upgrade(path)
    assert query(path, "SELECT count(*) FROM ingress_invites") == [(5,)]
