"""What others made around the table survives its upgrade, and odd but known columns end as they must."""

import pytest

from tests.conftest import rows, write
from tests.gateway_store.catalogue import definitions, query, run, schema
from tests.gateway_store.shapes import SHAPES, WITH_INVITES, make, script, upgrade
from tests.gateway_store.test_upgrade_adopts import upgraded

INDEXES_AND_VIEW = """
    CREATE INDEX mine ON ingress_invites (note) WHERE note IS NOT NULL;
    CREATE UNIQUE INDEX mine_too ON ingress_invites (id, status);
    CREATE VIEW mine_open AS SELECT id FROM ingress_invites WHERE status = 'active';
"""
TRIGGER_ELSEWHERE = {
    "sqlite": """
        CREATE TRIGGER mine_named AFTER UPDATE ON contacts
        BEGIN UPDATE ingress_invites SET note = new.display_name WHERE contact_id = new.id; END
    """,
    "postgresql": """
        CREATE FUNCTION mine_named() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN UPDATE ingress_invites SET note = new.display_name WHERE contact_id = new.id; RETURN NULL; END $$;
        CREATE TRIGGER mine_named AFTER UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION mine_named()
    """,
}
TRIGGER_ON_THE_TABLE = """
    CREATE FUNCTION mine_shouts() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN new.note = upper(new.note); RETURN new; END $$;
    CREATE TRIGGER mine_shouts BEFORE UPDATE OF note ON ingress_invites FOR EACH ROW EXECUTE FUNCTION mine_shouts()
"""
CONSTRAINT_TRIGGER = """
    CREATE FUNCTION mine() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER mine AFTER UPDATE ON ingress_invites {deferred} FOR EACH ROW EXECUTE FUNCTION mine()
"""
OTHER_SCHEMA = """
    CREATE SCHEMA other;
    CREATE TABLE other.ingress_invites (id TEXT, token_hash TEXT);
    CREATE INDEX idx_ingress_invites_token_lookup ON other.ingress_invites (token_hash);
"""
in_place = pytest.mark.only("postgresql", because="SQLite rebuilds the table, with columns of its own")


def mine(url: str) -> list[tuple[str, ...]]:
    return [one for one in definitions(url) if "mine" in one[1]]


@pytest.mark.parametrize("shape", WITH_INVITES)
def test_indexes_views_and_triggers_of_others_survive(url: str, backend: str, shape: str) -> None:
    make(url, shape, INDEXES_AND_VIEW, TRIGGER_ELSEWHERE[backend], invites=5)
    before = mine(url)
    upgrade(url)
    assert mine(url) == before
    assert query(url, "SELECT id FROM mine_open ORDER BY id") == [("inv-000000",), ("inv-000004",)]
    with upgraded(url) as engine:
        write(engine, "UPDATE contacts SET display_name = 'Eve' WHERE id = 'co-2'")
        assert rows(engine, "SELECT DISTINCT note FROM ingress_invites WHERE contact_id = 'co-2'") == [{"note": "Eve"}]


@pytest.mark.only("postgresql", because="SQLite refuses a table with triggers: its rebuild would lose them")
@pytest.mark.parametrize("shape", WITH_INVITES)
def test_triggers_of_the_table_itself_survive_and_fire(url: str, shape: str) -> None:
    make(url, shape, TRIGGER_ON_THE_TABLE, invites=1)
    before = mine(url)
    upgrade(url)
    assert mine(url) == before
    with upgraded(url) as engine:
        write(engine, "UPDATE ingress_invites SET note = 'loud'")
        assert rows(engine, "SELECT note FROM ingress_invites") == [{"note": "LOUD"}]


def built(url: str, backend: str, known: str, odd: str) -> None:
    """The old shape with something made otherwise, and five invites."""
    assert known in SHAPES["old"]
    run(url, script(backend, SHAPES["old"].replace(known, odd)))
    columns = "source_channel, invite_code_hash, expires_at, contact_id, created_at, updated_at"
    for number in range(5):
        run(url, f"INSERT INTO ingress_invites (id, {columns}) VALUES ('inv-{number}', 'sms', 'h', 1, 'co-1', 1, 1)")


@pytest.mark.parametrize("name", ["expires_at {instant}", "source_channel TEXT", "contact_id TEXT"])
def test_a_column_that_could_be_null_and_never_was_cannot_be_null_any_more(url: str, backend: str, name: str) -> None:
    built(url, backend, f"{name} NOT NULL", name)
    upgrade(url)
    assert schema(url)["columns"][name.split()[0]][1] is False
    assert query(url, "SELECT count(*) FROM ingress_invites") == [(5,)]


@pytest.mark.parametrize("rule", ["", "ON DELETE SET NULL", "ON DELETE RESTRICT"])
def test_a_deleted_contact_takes_its_invites_along_whatever_the_foreign_key_said(
    url: str, backend: str, rule: str
) -> None:
    built(url, backend, "ON DELETE CASCADE", rule)
    with upgraded(url) as engine:
        write(engine, "DELETE FROM contacts WHERE id = 'co-1'")
        assert rows(engine, "SELECT id FROM ingress_invites") == []


@in_place
@pytest.mark.parametrize("known", ["expires_at {instant}", "redeemed_at {instant}", "max_uses INTEGER"])
def test_a_column_of_four_bytes_becomes_one_of_eight(url: str, backend: str, known: str) -> None:
    name = known.split()[0]
    built(url, backend, known, f"{name} INTEGER")
    with upgraded(url) as engine:
        write(engine, f"UPDATE ingress_invites SET {name} = {2**53 - 1}")
        assert rows(engine, f"SELECT DISTINCT {name} AS n FROM ingress_invites") == [{"n": 2**53 - 1}]


@in_place
@pytest.mark.parametrize("kind", ["VARCHAR(20)", "CHAR(20)"])
def test_a_column_of_bounded_text_becomes_one_without_a_bound(url: str, backend: str, kind: str) -> None:
    built(url, backend, "note TEXT", f"note {kind}")
    run(url, "UPDATE ingress_invites SET note = 'short'")
    with upgraded(url) as engine:
        write(engine, f"UPDATE ingress_invites SET note = note || '{'x' * 100}'")
        assert rows(engine, "SELECT DISTINCT note FROM ingress_invites") == [{"note": "short" + "x" * 100}]


@pytest.mark.only("postgresql", because="only there waiting checks forbid to alter a table")
@pytest.mark.parametrize("shape", WITH_INVITES)
def test_checks_that_wait_for_the_commit_do_not_stop_the_upgrade(url: str, backend: str, shape: str) -> None:
    deferred = "DEFERRABLE INITIALLY DEFERRED"
    run(url, script(backend, SHAPES[shape].replace("ON DELETE CASCADE", f"ON DELETE CASCADE {deferred}")))
    run(url, CONSTRAINT_TRIGGER.format(deferred=deferred))
    columns = "source_channel, invite_code_hash, expires_at, contact_id, created_at, updated_at"
    run(url, f"INSERT INTO ingress_invites (id, {columns}) VALUES ('inv-1', 'sms', '', 1, 'co-1', 1, 1)")
    upgrade(url)
    assert query(url, "SELECT id, invite_code_hash FROM ingress_invites") == [("inv-1", None)]


@pytest.mark.only("postgresql", because="SQLite has no schemas")
def test_an_index_of_the_same_name_in_another_schema_is_left_alone(url: str) -> None:
    make(url, "old", OTHER_SCHEMA, invites=1)
    upgrade(f"{url}&options=-csearch_path%3Dpublic,other")
    indexes = "SELECT schemaname FROM pg_indexes WHERE indexname = 'idx_ingress_invites_token_lookup' ORDER BY 1"
    assert query(url, indexes) == [("other",), ("public",)]
