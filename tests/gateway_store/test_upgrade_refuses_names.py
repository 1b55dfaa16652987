"""A database that has another use for a name that the upgrade needs is refused by that name, and nothing is changed."""

import pytest

from outbox import SchemaRefusedError
from tests.gateway_store.catalogue import content, run
from tests.gateway_store.shapes import SHAPES, make, script, upgrade
from tests.gateway_store.test_upgrade_refuses import refused_unchanged

TRIGGER = {
    "sqlite": "CREATE TRIGGER {name} AFTER UPDATE ON {table} BEGIN SELECT 1; END",
    "postgresql": """
        CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER {name} AFTER UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION mine()
    """,
}
VIEW = {"sqlite": "view", "postgresql": "relation"}
CHANGED_AFTERWARDS = {
    "an unknown column": ("ALTER TABLE ingress_invites ADD COLUMN colour TEXT", "column colour is unknown"),
    "some of the new columns": (
        "ALTER TABLE ingress_invites ADD COLUMN token_hash TEXT",
        "column voice_code_hash is missing",
    ),
    "a missing column": ("ALTER TABLE ingress_invites DROP COLUMN note", "column note is missing"),
    "the new table's name in use": ("CREATE TABLE ingress_invites_new (x TEXT)", "table ingress_invites_new"),
    "the name for what was closed in use": ("CREATE TABLE ingress_invites_closed (x TEXT)", "ingress_invites_closed"),
    "an index's name in use": (
        "CREATE INDEX idx_ingress_invites_token_lookup ON contacts (role)",
        "index idx_ingress_invites_token_lookup",
    ),
    "an index's name given to a table": (
        "CREATE TABLE idx_ingress_invites_voice_lookup (x TEXT)",
        "table idx_ingress_invites_voice_lookup",
    ),
}
USED_IN_POSTGRESQL = {
    "a function": (
        "CREATE FUNCTION ingress_invites_remember_closed() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "function ingress_invites_remember_closed",
    ),
    "a type": ("CREATE TYPE ingress_invites_closed AS ENUM ('a')", "type ingress_invites_closed"),
    "a sequence": ("CREATE SEQUENCE ingress_invites_closed", "relation ingress_invites_closed"),
}


@pytest.mark.parametrize(("change", "words"), CHANGED_AFTERWARDS.values(), ids=CHANGED_AFTERWARDS)
def test_an_altered_database_is_refused_unchanged(url: str, change: str, words: str) -> None:
    make(url, "old", change, invites=5)
    refused_unchanged(url, words)


@pytest.mark.only("postgresql", because="SQLite has nothing of these kinds")
@pytest.mark.parametrize(("change", "words"), USED_IN_POSTGRESQL.values(), ids=USED_IN_POSTGRESQL)
@pytest.mark.parametrize("shape", ["fresh", "old"])
def test_a_name_in_use_for_something_else_is_refused_unchanged(url: str, shape: str, change: str, words: str) -> None:
    make(url, shape, change)
    refused_unchanged(url, words)


def test_our_triggers_name_in_use_is_refused_unchanged(url: str, backend: str) -> None:
    # SQLite's triggers share one set of names; on PostgreSQL each table has its own.
    table = {"sqlite": "contacts", "postgresql": "ingress_invites"}[backend]
    make(url, "old", TRIGGER[backend].format(name="ingress_invites_remember_closed", table=table), invites=5)
    refused_unchanged(url, "trigger ingress_invites_remember_closed")


@pytest.mark.only("sqlite", because="PostgreSQL alters the table in place and keeps its triggers")
def test_a_table_with_triggers_is_refused_unchanged(url: str, backend: str) -> None:
    make(url, "old", TRIGGER[backend].format(name="watch", table="ingress_invites"), invites=5)
    refused_unchanged(url, r"triggers \(watch\)")


def test_the_name_in_other_letters_is_refused_unchanged(url: str, backend: str) -> None:
    run(url, script(backend, SHAPES["old"].replace(" ingress_invites (", ' "Ingress_Invites" (')))
    refused_unchanged(url, "table Ingress_Invites")


def test_a_view_of_the_tables_name_is_refused_unchanged(url: str, backend: str) -> None:
    make(url, "contacts only", "CREATE VIEW ingress_invites AS SELECT id FROM contacts")
    refused_unchanged(url, f"{VIEW[backend]} ingress_invites")


def test_a_database_of_a_later_release_is_refused_unchanged(url: str) -> None:
    upgrade(url)
    run(url, "UPDATE gateway_store_schema_version SET version_num = '9999'")
    before = content(url)
    with pytest.raises(SchemaRefusedError, match="upgraded by a later release"):
        upgrade(url)
    assert content(url) == before
