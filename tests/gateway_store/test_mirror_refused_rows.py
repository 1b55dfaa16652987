"""A row that the gateway's table refuses by a rule of its own is refused alone, for good, and says why (P8)."""

import random
import string

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from gateway_store import StoredRowError, mirror_batch
from gateway_store.invites.mirror import Payload
from outbox import writing
from tests.conftest import rows, write
from tests.gateway_store.examples import OTHER_HASH, RECORDED, deliver, payload, stored
from tests.gateway_store.test_mirror_batch import ids, verdicts

ONE_TOKEN = "CREATE UNIQUE INDEX one_token ON ingress_invites (token_hash)"
BROKEN = {
    "sqlite": "UNIQUE constraint failed: ingress_invites.token_hash",
    "postgresql": 'duplicate key value violates unique constraint "one_token"',
}
# Rights to lock a row, but not to add one.
READ_ONLY = {
    "sqlite": "PRAGMA query_only=ON",
    "postgresql": "GRANT UPDATE ON contacts, ingress_invites TO pg_read_all_data; SET LOCAL ROLE pg_read_all_data",
}
NOT_WRITTEN = {"sqlite": "readonly database", "postgresql": "permission denied for table ingress_invites"}
GUARD = """
    CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN new; END $$;
    CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON ingress_invites FOR EACH ROW EXECUTE FUNCTION guard()
"""
RAISES = {
    "an exception": "IF new.note = 'bad' THEN RAISE EXCEPTION 'no bad notes'; END IF;",
    "an exception with a code of its own": (
        "IF new.note = 'bad' THEN RAISE EXCEPTION 'no bad notes' USING ERRCODE = 'MY001'; END IF;"
    ),
    "an exception in the words of a constraint": (
        "IF new.note = 'bad' THEN RAISE EXCEPTION 'no bad notes' USING ERRCODE = 'check_violation'; END IF;"
    ),
    "an assertion": "ASSERT new.note IS DISTINCT FROM 'bad', 'no bad notes';",
}


def test_a_row_that_the_table_itself_refuses_fails_alone(mirror: Engine) -> None:
    write(mirror, ONE_TOKEN)
    hashes = [digit * 64 for digit in "0123"]
    batch: list[Payload] = [
        payload(id="a", tokenHash=hashes[0]),
        payload(id="b", tokenHash=hashes[1]),
        payload(id="thief", tokenHash=hashes[0]),
        payload(id="c", tokenHash=hashes[2]),
        payload(id="a", tokenHash=hashes[0], status="revoked"),
    ]
    assert verdicts(mirror, batch) == ["created", "created", StoredRowError, "created", "advanced"]
    assert ids(mirror) == ["a", "b", "c"]
    assert stored(mirror, "a").status == "revoked"


def test_an_update_that_the_table_itself_refuses_fails_alone(mirror: Engine) -> None:
    write(mirror, "CREATE UNIQUE INDEX one_note ON ingress_invites (note)")
    deliver(mirror, payload(id="a", note="taken"))
    deliver(mirror, payload(id="b"))
    later = RECORDED["updatedAt"] + 1
    batch: list[Payload] = [
        payload(id="b", note="taken", updatedAt=later),
        payload(id="a", note="taken", status="revoked", updatedAt=later),
    ]
    assert verdicts(mirror, batch) == [StoredRowError, "advanced"]
    assert (stored(mirror, "a").status, stored(mirror, "b").note) == ("revoked", None)


def test_a_table_that_refuses_says_which_rule_was_broken(mirror: Engine, backend: str) -> None:
    write(mirror, ONE_TOKEN)
    with Session(mirror) as session, session.begin():
        _, refusal = mirror_batch(session.connection(), [payload(id="a"), payload(id="b")])
    assert isinstance(refusal, StoredRowError)
    assert BROKEN[backend] in str(refusal)


def test_a_row_that_the_table_refuses_leaves_earlier_work_of_the_caller_intact(mirror: Engine) -> None:
    write(mirror, ONE_TOKEN)
    with Session(mirror) as session, session.begin():
        mirror_batch(session.connection(), [payload(id="first")])
        mirror_batch(session.connection(), [payload(id="second")])
        mirror_batch(session.connection(), [payload(id="third", tokenHash=OTHER_HASH)])
    assert ids(mirror) == ["first", "third"]


@pytest.mark.only("sqlite", because="PostgreSQL has triggers of another make")
def test_a_row_for_which_a_trigger_raises_fails_alone(mirror: Engine) -> None:
    with writing(mirror) as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER guard BEFORE INSERT ON ingress_invites WHEN new.note = 'bad' "
            "BEGIN SELECT RAISE(ABORT, 'no bad notes'); END"
        )
    assert verdicts(mirror, [payload(id="a"), payload(id="b", note="bad")]) == ["created", StoredRowError]
    assert ids(mirror) == ["a"]


@pytest.mark.only("postgresql", because="SQLite has triggers of another make")
@pytest.mark.parametrize("body", RAISES.values(), ids=RAISES)
def test_a_row_for_which_a_function_raises_fails_alone(mirror: Engine, body: str) -> None:
    with writing(mirror) as connection:
        connection.exec_driver_sql(GUARD.format(body=body))
    deliver(mirror, payload(id="known"))
    batch: list[Payload] = [
        payload(id="a"),
        payload(id="b", note="bad"),
        payload(id="known", note="bad", updatedAt=RECORDED["updatedAt"] + 1),
        payload(id="c"),
    ]
    assert verdicts(mirror, batch) == ["created", StoredRowError, StoredRowError, "created"]
    assert ids(mirror) == ["a", "c", "known"]
    with pytest.raises(StoredRowError, match="the gateway's table refuses the row: no bad notes"):
        deliver(mirror, payload(id="b", note="bad"))


@pytest.mark.only("postgresql", because="SQLite adds no constraint to a table that is there")
def test_a_row_that_a_check_refuses_fails_alone(mirror: Engine) -> None:
    write(mirror, "ALTER TABLE ingress_invites ADD CONSTRAINT few CHECK (max_uses < 100)")
    batch: list[Payload] = [payload(id="a"), payload(id="b", maxUses=100), payload(id="c")]
    assert verdicts(mirror, batch) == ["created", StoredRowError, "created"]
    with pytest.raises(StoredRowError, match='violates check constraint "few"'):
        deliver(mirror, payload(id="b", maxUses=100))


@pytest.mark.only("postgresql", because="an index of SQLite takes any text")
@pytest.mark.parametrize("name", ["sourceChannel", "tokenHash", "inviteCodeHash", "id"])
def test_text_too_long_for_an_index_is_refused_alone(mirror: Engine, name: str) -> None:
    # At random, or it would be short once compressed.
    text = "".join(random.Random(1).choices(string.printable, k=20_000))  # noqa: S311 - no secret
    assert verdicts(mirror, [payload(id="a"), payload(**{"id": "b", name: text})]) == ["created", StoredRowError]
    assert ids(mirror) == ["a"]


def test_a_table_that_can_be_read_but_not_written_is_no_fault_of_a_row(mirror: Engine, backend: str) -> None:
    with writing(mirror) as connection:
        connection.exec_driver_sql(READ_ONLY[backend])
        with pytest.raises(DBAPIError, match=NOT_WRITTEN[backend]):
            mirror_batch(connection, [RECORDED])
    assert rows(mirror, "SELECT id FROM ingress_invites") == []
