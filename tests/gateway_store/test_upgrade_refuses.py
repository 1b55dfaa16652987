"""A database of no known shape is refused by name of what is odd, and nothing in it is changed."""

from collections.abc import Mapping

import pytest
from sqlalchemy import make_url

from outbox import SchemaRefusedError
from tests.gateway_store.catalogue import content, query, run
from tests.gateway_store.shapes import CONTACTS, SHAPES, make, script, upgrade

Changes = Mapping[str, str]

MADE_OTHERWISE: dict[str, tuple[Changes, str]] = {
    "text for an integer": ({"expires_at {instant}": "expires_at TEXT"}, "column expires_at is TEXT, not integer"),
    "an integer for text": ({"note TEXT": "note INTEGER"}, "column note is INTEGER, not text"),
    "a fraction for an integer": ({"max_uses INTEGER": "max_uses NUMERIC"}, "column max_uses is NUMERIC, not integer"),
    "no primary key": ({"id TEXT PRIMARY KEY NOT NULL, source": "id TEXT NOT NULL, source"}, "primary key is missing"),
    "another primary key": (
        {
            "id TEXT PRIMARY KEY NOT NULL, source_channel TEXT": "id TEXT NOT NULL, source_channel TEXT PRIMARY KEY",
        },
        "the primary key is source_channel, not id",
    ),
    "no foreign key": ({"REFERENCES contacts (id) ON DELETE CASCADE": ""}, r"must have one foreign key.+found \[\]"),
    "a foreign key to something else": (
        {
            "CREATE TABLE ingress": "CREATE TABLE people (id TEXT PRIMARY KEY); CREATE TABLE ingress",
            "REFERENCES contacts": "REFERENCES people",
        },
        "found .+'people'",
    ),
    "a second foreign key": ({"note TEXT": "note TEXT REFERENCES contacts (id)"}, "found .+'note', 'contacts'"),
    "no contacts": (
        {CONTACTS: "", "REFERENCES contacts (id) ON DELETE CASCADE": ""},
        "has ingress_invites but no contacts",
    ),
    "contacts without a column": (
        {"principal_id TEXT": "boss_id TEXT"},
        "contacts in .+: column principal_id is missing",
    ),
    "contacts without a key": (
        {"id TEXT PRIMARY KEY NOT NULL, display": "id TEXT UNIQUE, display"},
        "primary key is missing",
    ),
    "contacts with a column that must be given": (
        {"colour TEXT);": "colour TEXT NOT NULL);", "2, 2, NULL)": "2, 2, 'blue')"},
        "column colour is unknown and must be given",
    ),
}
BYTES = {"sqlite": "BLOB", "postgresql": "BYTEA"}
NULL_REFUSED = {
    "sqlite": r"NOT NULL constraint failed: ingress_invites\w*\.{name}",
    "postgresql": 'column "{name}" of relation "ingress_invites" contains null values',
}
STATUS = "CREATE TYPE status AS ENUM ('active', 'redeemed', 'revoked', 'expired');"


def refused_unchanged(url: str, words: str) -> None:
    before = content(url)
    with pytest.raises(SchemaRefusedError, match=words) as refused:
        upgrade(url)
    assert "Nothing was changed" in str(refused.value) or "nothing was changed" in str(refused.value)
    assert str(make_url(url).database) in str(refused.value)
    assert content(url) == before


def build(url: str, backend: str, text: str, changes: Changes) -> None:
    for known, odd in changes.items():
        assert known in text
        text = text.replace(known, odd)
    run(url, script(backend, text))


@pytest.mark.parametrize(("changes", "words"), MADE_OTHERWISE.values(), ids=MADE_OTHERWISE)
def test_a_database_of_another_make_is_refused_unchanged(url: str, backend: str, changes: Changes, words: str) -> None:
    build(url, backend, SHAPES["old"], changes)
    refused_unchanged(url, words)


def test_bytes_for_text_are_refused_unchanged(url: str, backend: str) -> None:
    build(url, backend, SHAPES["old"], {"note TEXT": f"note {BYTES[backend]}"})
    refused_unchanged(url, f"column note is {BYTES[backend]}, not text")


@pytest.mark.only("postgresql", because="SQLite has no enumerated types")
def test_an_enumerated_status_is_refused_unchanged(url: str, backend: str) -> None:
    build(url, backend, STATUS + SHAPES["old"], {"status TEXT NOT NULL DEFAULT 'active'": "status status NOT NULL"})
    refused_unchanged(url, "column status is status, not text")


def test_a_refusal_names_all_that_is_odd_at_once(url: str, backend: str) -> None:
    build(url, backend, SHAPES["old"], {"note TEXT": "colour TEXT", "expires_at {instant}": "expires_at TEXT"})
    refused_unchanged(url, "column note is missing; column colour is unknown; column expires_at is TEXT")


@pytest.mark.parametrize("shape", ["contacts only", "all columns"])
def test_odd_contacts_are_refused_whatever_the_invites_look_like(url: str, backend: str, shape: str) -> None:
    build(url, backend, SHAPES[shape], {"principal_id": "boss_id"})
    refused_unchanged(url, "column principal_id is missing")


@pytest.mark.parametrize("name", ["source_channel", "contact_id", "updated_at"])
def test_a_row_without_a_value_that_must_be_there_is_refused_unchanged(url: str, backend: str, name: str) -> None:
    kind = "{instant}" if name == "updated_at" else "TEXT"
    build(url, backend, SHAPES["old"], {f"{name} {kind} NOT NULL": f"{name} {kind}"})
    values = {"id": "'i'", "source_channel": "'sms'", "invite_code_hash": "'h'", "expires_at": "1"} | {
        "contact_id": "'co-1'",
        "created_at": "1",
        "updated_at": "1",
    }
    del values[name]
    run(url, f"INSERT INTO ingress_invites ({', '.join(values)}) VALUES ({', '.join(values.values())})")
    refused_unchanged(url, f"a row that cannot be kept: {NULL_REFUSED[backend].format(name=name)}")


@pytest.mark.only("sqlite", because="only there a primary key may be NULL")
def test_a_row_without_an_id_is_refused_unchanged(url: str, backend: str) -> None:
    build(url, backend, SHAPES["old"], {"id TEXT PRIMARY KEY NOT NULL, source": "id TEXT PRIMARY KEY, source"})
    columns = "source_channel, invite_code_hash, expires_at, contact_id, created_at, updated_at"
    run(url, f"INSERT INTO ingress_invites ({columns}) VALUES ('telegram', 'h', 1, 'co-1', 1, 1)")
    refused_unchanged(url, f"a row that cannot be kept: {NULL_REFUSED[backend].format(name='id')}")


@pytest.mark.only("postgresql", because="SQLite rebuilds the table, and no column of it is altered")
@pytest.mark.parametrize(
    "user",
    [
        "CREATE VIEW mine AS SELECT id, max_uses FROM ingress_invites",
        "CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        "CREATE TRIGGER mine AFTER UPDATE OF max_uses ON ingress_invites FOR EACH ROW EXECUTE FUNCTION mine()",
    ],
    ids=["view", "trigger"],
)
def test_a_column_that_must_be_widened_and_is_in_use_is_refused_unchanged(url: str, user: str) -> None:
    make(url, "old", user, invites=5)
    refused_unchanged(url, "a column that cannot be widened: .+ mine ")


def test_a_refused_database_is_accepted_once_it_is_corrected(url: str) -> None:
    make(url, "old", "ALTER TABLE ingress_invites ADD COLUMN colour TEXT", invites=5)
    with pytest.raises(SchemaRefusedError):
        upgrade(url)
    run(url, "ALTER TABLE ingress_invites DROP COLUMN colour")
    upgrade(url)
    assert query(url, "SELECT count(*) FROM ingress_invites") == [(5,)]
