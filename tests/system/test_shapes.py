"""No command believes that a store is what its URL says: each checks what it needs, and names the cure."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Engine, make_url

import gateway_store
from outbox.database.sqlite import sqlite_path
from tests.conftest import Stores, write
from tests.databases import database_url, name_of
from tests.system.processes import relay, relay_at, running_relay
from tests.system.untouched import contents

A_FILE = "one file for both stores is refused by its name, see tests/system/test_command_urls.py"
LOOKING = (("init",), ("run", "--until-empty"), ("run",), ("status",), ("verify",))
OF_THE_OUTBOX = (("replay", "--all"), ("dead", "list"), ("prune",))
COPY = "Restore it from a copy"
LATER = "install that release"

OF_THE_SOURCE = {
    "no leases": ("DROP TABLE outbox_leases", "table outbox_leases is missing", COPY),
    "no messages": ("DROP TABLE outbox_messages", "table outbox_messages is missing", COPY),
    "no routes": ("DROP TABLE outbox_routes", "table outbox_routes is missing", COPY),
    "no invites": ("DROP TABLE assistant_ingress_invites", "table assistant_ingress_invites is missing", COPY),
    "a column less": ("ALTER TABLE outbox_relays DROP COLUMN host_name", "column host_name of outbox_relays", COPY),
    "a field less": ("ALTER TABLE assistant_ingress_invites DROP COLUMN note", "column note of assistant_ing", COPY),
    "no identity": ("DELETE FROM outbox_identity", "outbox_identity has lost its row", COPY),
    "no index": ("DROP INDEX ix_outbox_key", "index ix_outbox_key is missing", "CREATE INDEX ix_outbox_key ON"),
    "a later outbox": ("UPDATE outbox_schema_version SET version_num = '0099'", "0099", LATER),
    "a version of another shape": (
        "ALTER TABLE outbox_schema_version RENAME COLUMN version_num TO v",
        "outbox_schema_version that does not say of which release it is",
        "restore it from a copy",
    ),
    "later invites": ("UPDATE assistant_store_schema_version SET version_num = '0099'", "0099", LATER),
}
OF_THE_MIRROR = {
    "nothing of the closed": ("DROP TABLE ingress_invites_closed", "table ingress_invites_closed is missing", COPY),
    "no invites": ("DROP TABLE ingress_invites", "table ingress_invites is missing", COPY),
    "no identity": ("DELETE FROM store_identity", "store_identity has lost its row", COPY),
    "a field less": ("ALTER TABLE ingress_invites DROP COLUMN note", "column note of ingress_invites", COPY),
    "a column less": ("ALTER TABLE contacts DROP COLUMN role", "column role of contacts is missing", COPY),
    "no index": (
        "DROP INDEX idx_ingress_invites_token_lookup",
        "index idx_ingress_invites_token_lookup is missing",
        "CREATE INDEX idx_ingress_invites_token_lookup ON",
    ),
    "a version of another shape": (
        "ALTER TABLE gateway_store_schema_version RENAME COLUMN version_num TO v",
        "gateway_store_schema_version that does not say of which release it is",
        "restore it from a copy",
    ),
    "later": ("UPDATE gateway_store_schema_version SET version_num = '0099'", "0099", LATER),
}
TRIGGERS = {
    "sqlite": "DROP TRIGGER ingress_invites_remember_closed",
    "postgresql": "DROP TRIGGER ingress_invites_remember_closed ON ingress_invites",
}
ON_POSTGRESQL = {
    "no sequence": ("DROP SEQUENCE store_batches", "sequence store_batches is missing"),
    "no foreign key": (
        "ALTER TABLE ingress_invites DROP CONSTRAINT ingress_invites_contact_id_fkey",
        "the foreign key from contact_id of ingress_invites to contacts",
    ),
    "another kind": (
        "ALTER TABLE ingress_invites ALTER note TYPE bytea USING NULL",
        "note of ingress_invites is bytea",
    ),
    "no key": ("ALTER TABLE ingress_invites_closed DROP CONSTRAINT ingress_invites_closed_pkey", "primary key of"),
    "a trigger switched off": ("ALTER TABLE ingress_invites DISABLE TRIGGER USER", "ingress_invites_remember_closed"),
}


def where(engine: Engine) -> str:
    return str(sqlite_path(engine) or name_of(engine.url.render_as_string()))


def refused_by(stores: Stores, *commands: tuple[str, ...]) -> Iterator[str]:
    for command in commands:
        ended = relay(stores, *command)
        assert ended.code == 4, (command, ended)
        assert "Traceback" not in ended.err
        assert "ready" not in ended.out
        yield ended.err


@pytest.mark.parametrize(("damage", "words", "cure"), OF_THE_SOURCE.values(), ids=OF_THE_SOURCE)
def test_what_the_assistants_database_lacks_is_named_with_its_cure(
    stores: Stores, damage: str, words: str, cure: str
) -> None:
    write(stores.source, damage)
    for said in refused_by(stores, *LOOKING, *OF_THE_OUTBOX):
        for one in ("the assistant's database", where(stores.source), words, cure):
            assert one in said


def test_tables_of_which_nothing_says_of_which_release_are_never_made_anew(stores: Stores) -> None:
    stores.create()
    write(stores.source, "DROP TABLE outbox_schema_version")
    made_by_init, *others = refused_by(stores, *LOOKING, *OF_THE_OUTBOX)
    assert "Nothing was changed" in made_by_init
    assert all("has outbox_identity" in said and "restore it from a copy" in said for said in others)
    assert stores.states() == ["pending"]


@pytest.mark.parametrize(("damage", "words", "cure"), OF_THE_MIRROR.values(), ids=OF_THE_MIRROR)
def test_what_the_gateways_database_lacks_is_named_with_its_cure(
    stores: Stores, damage: str, words: str, cure: str, backend: str
) -> None:
    stores.create()
    write(stores.mirror, damage)
    for said in refused_by(stores, *LOOKING):
        for one in ("the gateway's database", where(stores.mirror), words, cure):
            assert one in said
    ended = relay_at(stores.folder, "gateway", f"--listen=unix://{stores.folder}/s/g.sock", f"--db={stores.mirror_url}")
    assert (ended.code, words in ended.only_line) == (4, True)
    assert stores.states() == ["pending"]


@pytest.mark.only("sqlite", because="only SQLite's columns hold values of any type")
def test_a_version_that_is_no_text_is_no_release(stores: Stores) -> None:
    write(stores.mirror, "UPDATE gateway_store_schema_version SET version_num = x'00'")
    assert all("does not say of which release it is" in said for said in refused_by(stores, *LOOKING))


@pytest.mark.only("postgresql", because="on SQLite nothing of a table can be dropped that its statement holds")
@pytest.mark.parametrize(("damage", "words"), ON_POSTGRESQL.values(), ids=ON_POSTGRESQL)
def test_rules_that_a_table_lost_are_named(stores: Stores, damage: str, words: str) -> None:
    write(stores.mirror, damage)
    assert all(words in said for said in refused_by(stores, *LOOKING))


def test_the_statements_that_make_up_for_a_dropped_index_and_trigger_do_so(stores: Stores, backend: str) -> None:
    write(stores.mirror, TRIGGERS[backend])
    write(stores.mirror, "DROP INDEX idx_ingress_invites_contact")
    (said,) = refused_by(stores, ("verify",))
    statements = said.strip().partition("Make again what is missing: ")[2]
    for statement in statements.split("; CREATE"):
        words = statement if statement.startswith("CREATE") else f"CREATE{statement}"
        with stores.mirror.begin() as connection:
            connection.exec_driver_sql(words)
    assert [relay(stores, *command).code for command in LOOKING if command != ("run",)] == [0] * 4


def test_what_others_add_is_their_business(stores: Stores) -> None:
    write(stores.source, "ALTER TABLE assistant_ingress_invites ADD COLUMN colour TEXT")
    write(stores.mirror, "ALTER TABLE contacts ADD COLUMN colour TEXT")
    write(stores.mirror, "CREATE TABLE more (id TEXT)")
    assert [relay(stores, *command).code for command in LOOKING if command != ("run",)] == [0] * 4


def test_swapped_stores_are_refused_and_nothing_is_made_in_them(stores: Stores) -> None:
    stores.source.dispose()
    stores.mirror.dispose()
    swapped = "--assistant-db", stores.mirror_url, "--gateway", stores.source_url
    before = contents(stores.folder)
    for command in LOOKING:
        ended = relay_at(stores.folder, *swapped, *command)
        assert ended.code == 4
        assert "the assistant's database" in ended.only_line
        assert "is the gateway's database; see whether the two URLs are swapped" in ended.only_line
    assert contents(stores.folder) == before


def a_copy(url: str, folder: Path) -> str:
    """Another file with all that is in the one at ``url``; elsewhere the same database."""
    path = make_url(url).database
    if not url.startswith("sqlite") or path is None:
        return url
    with closing(sqlite3.connect(path)) as ours, closing(sqlite3.connect(folder / "copy.db")) as its:
        ours.backup(its)
    return f"sqlite:///{folder}/copy.db"


def test_the_assistants_database_as_the_gateways_is_refused(stores: Stores) -> None:
    stores.create()
    listen = f"--listen=unix://{stores.folder}/s/g.sock"
    another = a_copy(stores.source_url, stores.folder)
    for said in (
        *(relay(stores, "--gateway", another, *command) for command in LOOKING),
        relay_at(stores.folder, "gateway", listen, f"--db={another}"),
    ):
        assert (said.code, "is the assistant's database" in said.err) == (4, True)
    assert stores.states() == ["pending"]


@pytest.mark.only("postgresql", because=A_FILE)
def test_one_database_named_twice_is_refused_before_anything_is_made(tmp_path: Path, backend: str) -> None:
    with database_url(backend, tmp_path, "one.db") as url:
        ended = relay_at(tmp_path, f"--assistant-db={url}", f"--gateway={url}", "init")
        assert (ended.code, "each side has a database of its own" in ended.only_line) == (4, True)
        assert contents(tmp_path) == {}


@pytest.mark.only("postgresql", because=A_FILE)
def test_a_database_that_holds_both_stores_is_used_as_either(stores: Stores) -> None:
    gateway_store.upgrade(stores.source)
    assert relay(stores, "--gateway", stores.source_url, "status").code == 0
    assert relay(stores, "--gateway", stores.source_url, "init").code == 0


def test_a_gateways_table_that_vanishes_under_a_relay_is_an_outage(stores: Stores) -> None:
    with running_relay(stores, RELAY_PROBE_LONGEST="0.2") as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        write(stores.mirror, "ALTER TABLE ingress_invites_closed RENAME TO away")
        waits = stores.create().invite.id
        worker.wait_for("gateway_unreachable")
        write(stores.mirror, "UPDATE gateway_store_schema_version SET version_num = '0099'")
        while LATER not in worker.wait_for("gateway_unreachable")["reason"]:
            continue
        write(stores.mirror, "UPDATE gateway_store_schema_version SET version_num = '0002'")
        write(stores.mirror, "ALTER TABLE away RENAME TO ingress_invites_closed")
        worker.wait_until_delivered(waits)
        assert worker.terminate() == 0
    assert worker.events("not json") == []
    assert {row["attempts"] for row in stores.messages()} == {0}


def test_an_outboxs_table_that_vanishes_under_a_relay_is_an_outage(stores: Stores) -> None:
    with running_relay(stores, RELAY_POLL_INTERVAL="0.2") as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        write(stores.source, "ALTER TABLE outbox_leases RENAME TO away")
        waits = stores.create().invite.id
        worker.wait_for("outbox_unreachable")
        write(stores.source, "ALTER TABLE away RENAME TO outbox_leases")
        worker.wait_until_delivered(waits)
        assert worker.terminate() == 0
    assert worker.events("not json") == []
