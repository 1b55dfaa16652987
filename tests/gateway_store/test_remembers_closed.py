"""What was closed or used is remembered when its row is deleted, however that happens, and comes back closed."""

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import MirrorOutcome, upsert_contact
from gateway_store.errors import StoredRowError
from gateway_store.invites.mirror import mirror_and_commit
from outbox import writing
from tests.conftest import CONTACT, rows, write
from tests.gateway_store.examples import REDEEMED, deliver, payload, stored

STATES = {
    "a": payload(id="a"),
    "b": payload(id="b", status="expired"),
    "c": payload(id="c", status="revoked"),
    "d": REDEEMED | {"id": "d"},
    "e": payload(id="e", maxUses=3, useCount=1),
}
REMEMBERED = [
    {"id": "b", "status": "expired", "use_count": 0},
    {"id": "c", "status": "revoked", "use_count": 0},
    {"id": "d", "status": "redeemed", "use_count": 1},
    {"id": "e", "status": "active", "use_count": 1},
]
DELETIONS = [
    "DELETE FROM ingress_invites",
    "DELETE FROM ingress_invites WHERE id IN ('a', 'b', 'c', 'd', 'e')",
    "DELETE FROM contacts",
]
TRUNCATIONS = ["TRUNCATE ingress_invites", "TRUNCATE contacts CASCADE", "TRUNCATE contacts, ingress_invites"]
only_postgresql = pytest.mark.only("postgresql", because="SQLite has no TRUNCATE")


@pytest.fixture
def filled(mirror: Engine) -> Engine:
    for state in STATES.values():
        deliver(mirror, state)
    return mirror


def remembered(engine: Engine) -> list[dict[str, Any]]:
    return rows(engine, "SELECT id, status, use_count FROM ingress_invites_closed ORDER BY id")


def everything_comes_back_closed(engine: Engine) -> None:
    """Each invite is mirrored as it was when it was new, and then has the state of its deletion."""
    with Session(engine) as session, session.begin():
        upsert_contact(session, id=CONTACT, display_name="Ada")
    for invite_id, state in STATES.items():
        new = payload(id=invite_id, maxUses=state["maxUses"])
        outcome = deliver(engine, new)
        assert outcome.invite == stored(engine, invite_id)
        assert (outcome.invite.status, outcome.invite.use_count) == (state["status"], state["useCount"])


@pytest.mark.parametrize("how", DELETIONS)
def test_a_deletion_remembers_what_was_closed_or_used(filled: Engine, how: str) -> None:
    write(filled, how)
    assert rows(filled, "SELECT id FROM ingress_invites") == []
    assert remembered(filled) == REMEMBERED
    everything_comes_back_closed(filled)


@only_postgresql
@pytest.mark.parametrize("how", TRUNCATIONS)
def test_a_truncation_remembers_what_was_closed_or_used(filled: Engine, how: str) -> None:
    write(filled, how)
    assert rows(filled, "SELECT id FROM ingress_invites") == []
    assert remembered(filled) == REMEMBERED
    everything_comes_back_closed(filled)


@pytest.mark.parametrize("how", DELETIONS)
def test_a_deletion_rolled_back_remembers_nothing(filled: Engine, how: str) -> None:
    with Session(filled) as session:
        session.connection().exec_driver_sql(how)
        session.rollback()
    assert remembered(filled) == []


@only_postgresql
@pytest.mark.parametrize("how", TRUNCATIONS)
def test_a_truncation_rolled_back_remembers_nothing(filled: Engine, how: str) -> None:
    with Session(filled) as session:
        session.connection().exec_driver_sql(how)
        session.rollback()
    assert remembered(filled) == []


def test_the_state_of_the_last_deletion_is_the_one_remembered(filled: Engine) -> None:
    write(filled, "DELETE FROM ingress_invites")
    deliver(filled, payload(id="e", maxUses=3, useCount=2, status="revoked"))
    write(filled, "DELETE FROM ingress_invites")
    assert remembered(filled)[3] == {"id": "e", "status": "revoked", "use_count": 2}


@pytest.mark.only("postgresql", because="SQLite has no schemas to search")
@pytest.mark.parametrize("how", [*DELETIONS, *TRUNCATIONS])
def test_whoever_deletes_with_another_search_path_makes_the_same_be_remembered(filled: Engine, how: str) -> None:
    with writing(filled) as connection:
        connection.exec_driver_sql("SET LOCAL search_path = pg_catalog")
        connection.exec_driver_sql(how.replace("contacts", "public.contacts").replace("ingress", "public.ingress"))
    assert remembered(filled) == REMEMBERED


ODD = {
    "a status of bytes": ("x'ff'", "0"),
    "a count that is text": ("'revoked'", "'many'"),
    "a count of bytes": ("'revoked'", "x'00'"),
    "a count without end": ("'revoked'", "9e999"),
    "a count between": ("'revoked'", "0.5"),
}


@pytest.mark.only("sqlite", because="its columns take values of any type")
@pytest.mark.parametrize(("status", "use_count"), ODD.values(), ids=ODD)
def test_an_invite_closed_with_odd_values_is_refused_alone(mirror: Engine, status: str, use_count: str) -> None:
    refused_alone_until_corrected(mirror, status, use_count, first_created_at_wins=False)


@pytest.mark.parametrize("first_created_at_wins", [True, False])
def test_an_invite_that_was_closed_with_an_unknown_status_is_refused_alone(
    mirror: Engine, first_created_at_wins: bool
) -> None:
    refused_alone_until_corrected(mirror, "'reopened'", "0", first_created_at_wins)


def refused_alone_until_corrected(mirror: Engine, status: str, use_count: str, first_created_at_wins: bool) -> None:
    write(mirror, f"INSERT INTO ingress_invites_closed (id, status, use_count) VALUES ('b', {status}, {use_count})")
    invites = [payload(id=one) for one in "abc"]
    for _ in range(2):
        first, odd, last = mirror_and_commit(mirror, invites, first_created_at_wins=first_created_at_wins)
        assert isinstance(first, MirrorOutcome)
        assert isinstance(last, MirrorOutcome)
        assert isinstance(odd, StoredRowError)
        assert "correct that row by hand" in str(odd)
    assert [row["id"] for row in rows(mirror, "SELECT id FROM ingress_invites ORDER BY id")] == ["a", "c"]
    write(mirror, "UPDATE ingress_invites_closed SET status = 'revoked', use_count = 0 WHERE id = 'b'")
    assert deliver(mirror, invites[1]).invite.status == "revoked"
