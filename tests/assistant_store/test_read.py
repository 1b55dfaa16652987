"""Reading invites: by id, by token, and in lists."""

from collections.abc import Iterator
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from assistant_store import find_invite_by_token, get_invite, list_invites
from assistant_store.invites.invite import COLUMNS
from assistant_store.invites.read import PAGES
from outbox import open_engine, read_only, reading, writing
from outbox.pages import START, Place
from tests.assistant_store.test_create_rules import VOICE
from tests.conftest import Stores, rows, write
from tests.gateway_store.plans import plan_of


@pytest.fixture
def session(stores: Stores) -> Iterator[Session]:
    with Session(read_only(stores.source)) as session:
        yield session


def test_an_invite_is_found_by_its_id_as_it_was_returned(stores: Stores, session: Session) -> None:
    stores.create()
    created = stores.create(**VOICE)

    assert get_invite(session, created.invite.id) == created.invite
    assert get_invite(session, "unknown") is None


def test_an_invite_is_found_by_its_raw_token_and_by_no_other(stores: Stores, session: Session) -> None:
    stores.create()
    created = stores.create()
    assert created.raw_token is not None

    assert find_invite_by_token(session, created.raw_token) == created.invite
    for other in (created.invite.token_hash, created.raw_token[:-1], created.code, "", "\ud800"):
        assert find_invite_by_token(session, other) is None


def test_an_invite_is_found_by_its_token_whatever_its_status(stores: Stores, session: Session) -> None:
    created = stores.create()
    stores.revoke(created.invite.id)

    found = find_invite_by_token(session, created.raw_token or "")

    assert found is not None
    assert found.status == "revoked"


@pytest.mark.parametrize(
    ("wanted", "positions"),
    [
        ({}, [0, 1, 2, 3]),
        ({"status": "active"}, [0, 2, 3]),
        ({"status": "revoked"}, [1]),
        ({"source_channel": "phone"}, [2]),
        ({"contact_id": "co-2"}, [3]),
        ({"status": "active", "source_channel": "telegram", "contact_id": "co-1"}, [0]),
        ({"status": "expired"}, []),
        ({"limit": 2}, [0, 1]),
        ({"status": "active", "limit": 2}, [0, 2]),
    ],
)
def test_a_list_holds_what_matches_all_oldest_first_up_to_its_limit(
    stores: Stores, session: Session, wanted: dict[str, Any], positions: list[int]
) -> None:
    ids = []
    for hour, given in enumerate([{}, {}, VOICE, {"contact_id": "co-2"}]):
        with freeze_time(f"2024-01-01 0{hour}:00"):
            ids.append(stores.create(**given).invite.id)
    stores.revoke(ids[1])

    assert [invite.id for invite in list_invites(session, **wanted)] == [ids[position] for position in positions]


def test_reading_waits_for_no_writer(stores: Stores) -> None:
    created = stores.create()
    impatient = open_engine(stores.source_url, busy_timeout=0)

    with writing(stores.source) as connection, Session(read_only(impatient)) as session:
        connection.exec_driver_sql("UPDATE assistant_ingress_invites SET note = 'not committed yet'")
        found = get_invite(session, created.invite.id), list_invites(session)
    impatient.dispose()

    assert found == (created.invite, [created.invite])


def test_whole_rows_are_paged_by_id(stores: Stores) -> None:
    ids = sorted(stores.create().invite.id for _ in range(5))
    query = f"SELECT {', '.join(COLUMNS)} FROM assistant_ingress_invites ORDER BY id"
    whole = [tuple(row.values()) for row in rows(stores.source, query)]

    with reading(stores.source) as connection:
        first = PAGES.page(connection, START, 3)
        rest = PAGES.page(connection, Place(ids[2]), 3)
        some = PAGES.by_id(connection, [ids[4], "unknown", ids[0]])

    assert [*first.rows, *rest.rows] == whole
    assert (len(first.rows), first.following) == (3, Place(ids[2]))
    assert (len(rest.rows), rest.following) == (2, None)
    assert some == {ids[0]: whole[0], ids[4]: whole[4]}


@pytest.mark.only("postgresql", because="SQLite compares the bytes unless told otherwise")
def test_rows_are_paged_by_the_bytes_of_ids_whatever_the_collation_of_an_adopted_table(stores: Stores) -> None:
    assert plan_of(stores.source, first_page)[1].startswith("->  Index Scan using assistant_ingress_invites_pkey")
    write(stores.source, 'ALTER TABLE assistant_ingress_invites ALTER COLUMN id TYPE TEXT COLLATE "pg_unicode_fast"')
    assert 'Sort Key: ((id)::text) COLLATE "C"' in plan_of(stores.source, first_page)


def first_page(connection: Connection) -> object:
    return PAGES.page(connection, Place("a"), 3)
