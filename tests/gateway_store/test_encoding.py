"""A gateway's database that cannot keep every text: what it cannot keep is refused alone, and no invite stays open."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import gateway_store
from gateway_store import ContactMissingError, MirrorOutcome, StoredRowError
from gateway_store.invites.mirror import mirror_and_commit
from tests.conftest import CONTACT, write
from tests.databases import server_database_in
from tests.gateway_store.examples import RECORDED, REDEEMED, payload, stored
from tests.gateway_store.test_mirror_batch import ids, verdicts
from tests.outbox.conftest import opened

pytestmark = pytest.mark.only("postgresql", because="a server's databases have encodings of their own")

LATER = RECORDED["updatedAt"] + 1
EMOJI = "😀"


@pytest.fixture
def latin(backend: str) -> Iterator[Engine]:
    assert backend
    with server_database_in("LATIN1") as url, opened(url) as engine:
        yield _upgraded(engine)


@pytest.fixture
def ascii_(backend: str) -> Iterator[Engine]:
    assert backend
    with server_database_in("SQL_ASCII") as url, opened(url) as engine:
        yield _upgraded(engine)


def _upgraded(engine: Engine) -> Engine:
    """As one of an earlier release, which refused no encoding."""
    write(engine, "CREATE TABLE gateway_store_schema_version (version_num VARCHAR(32) PRIMARY KEY)")
    gateway_store.upgrade(engine)
    with Session(engine) as session, session.begin():
        gateway_store.upsert_contact(session, id=CONTACT, display_name="Ada")
    return engine


@pytest.mark.parametrize("name", ["id", "note", "friendName", "tokenHash"])
@pytest.mark.parametrize("known", [False, True])
def test_text_that_the_encoding_lacks_is_refused_alone_and_by_its_name(latin: Engine, name: str, known: bool) -> None:
    if known:
        mirror_and_commit(latin, [payload(id="c")])
    batch: list[Any] = [payload(id="a"), payload(**{"id": "b", name: EMOJI}), payload(id="c", note="café")]
    first, refused, last = mirror_and_commit(latin, batch)
    assert isinstance(first, MirrorOutcome)
    assert isinstance(refused, StoredRowError)
    assert isinstance(last, MirrorOutcome)
    assert "is in LATIN1, not UTF8" in str(refused)
    assert "createdb -E UTF8 -T template0" in str(refused)
    assert ids(latin) == ["a", "c"]
    assert verdicts(latin, batch) == ["unchanged", StoredRowError, "unchanged"]


def test_a_contact_that_the_encoding_lacks_is_refused_alone(latin: Engine) -> None:
    batch: list[Any] = [payload(id="a"), payload(id="b", contactId=EMOJI), payload(id="c", contactId="none")]
    assert verdicts(latin, batch) == ["created", StoredRowError, ContactMissingError]


@pytest.mark.parametrize("close", ["revoked", "expired"])
def test_text_that_the_encoding_lacks_keeps_no_invite_open(latin: Engine, close: str) -> None:
    mirror_and_commit(latin, [payload(note="café")])
    (refused,) = mirror_and_commit(latin, [payload(note=EMOJI, status=close, updatedAt=LATER)])
    assert isinstance(refused, StoredRowError)
    assert "LATIN1" in str(refused)
    assert (stored(latin).status, stored(latin).note) == (close, "café")


def test_a_use_by_somebody_whose_name_the_encoding_lacks_is_counted(latin: Engine) -> None:
    mirror_and_commit(latin, [RECORDED])
    mirror_and_commit(latin, [REDEEMED | {"redeemedByExternalUserId": EMOJI}])
    assert (stored(latin).status, stored(latin).use_count) == ("redeemed", 1)


@pytest.mark.parametrize("text", ["café", EMOJI])
def test_a_database_without_an_encoding_keeps_all_text_and_closes_what_has_it(ascii_: Engine, text: str) -> None:
    given = payload(id=text, note=text)
    assert verdicts(ascii_, [given, payload(id="plain")]) == ["created", "created"]
    assert verdicts(ascii_, [given | {"status": "revoked", "updatedAt": LATER}]) == ["advanced"]
    assert (stored(ascii_, text).status, stored(ascii_, text).note) == ("revoked", text)
