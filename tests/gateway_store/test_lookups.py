"""The gateway looks invites up by hash at every knock at the door: each lookup has its index, from every shape."""

import pytest
from sqlalchemy import Connection, Engine

from gateway_store.invites.read import PAGES
from outbox import reading
from outbox.pages import START, Place
from tests.conftest import write
from tests.gateway_store.catalogue import backend_of, connected
from tests.gateway_store.examples import RECORDED, deliver, payload
from tests.gateway_store.plans import plan_of
from tests.gateway_store.shapes import SHAPES, make, upgrade

LOOKUPS = {
    "token_hash = 'h'": "idx_ingress_invites_token_lookup",
    "invite_code_hash = 'h' AND source_channel = 'telegram'": "idx_ingress_invites_code_lookup",
    "voice_code_hash = 'h' AND source_channel = 'phone'": "idx_ingress_invites_voice_lookup",
    "contact_id = 'co-1'": "idx_ingress_invites_contact",
}
# PostgreSQL would read the whole table, as long as it is this small.
FOR_MANY_ROWS = {"sqlite": "SELECT 1", "postgresql": "SET enable_seqscan = off; SET enable_bitmapscan = off"}
EXPLAIN = {"sqlite": "EXPLAIN QUERY PLAN", "postgresql": "EXPLAIN (COSTS OFF)"}


def lookup(url: str, where: str) -> list[str]:
    """The index that a lookup reads, and the conditions by which it does."""
    with connected(url) as connection:
        connection.execute(FOR_MANY_ROWS[backend_of(url)])
        plan = connection.execute(f"{EXPLAIN[backend_of(url)]} SELECT * FROM ingress_invites WHERE {where}")
        return [str(step[-1]) for step in plan.fetchall()]


def expected(url: str, where: str, index: str) -> list[str]:
    names = [one.split()[0] for one in where.split(" AND ")]
    if backend_of(url) == "sqlite":
        return [f"SEARCH ingress_invites USING INDEX {index} ({' AND '.join(f'{name}=?' for name in names)})"]
    conditions = " AND ".join(f"({one}::text)" for one in where.split(" AND "))
    conditions = f"({conditions})" if len(names) > 1 else conditions
    return [f"Index Scan using {index} on ingress_invites", f"  Index Cond: {conditions}"]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_lookup_uses_its_index(url: str, shape: str) -> None:
    make(url, shape)
    upgrade(url)
    for where, index in LOOKUPS.items():
        assert lookup(url, where) == expected(url, where, index)


def test_pages_of_rows_follow_each_other_in_the_order_of_ids(mirror: Engine) -> None:
    for invite_id in ("c", "a", "B", "ä"):
        deliver(mirror, payload(id=invite_id))
    pages: list[list[object]] = []
    place: Place | None = START
    with reading(mirror) as connection:
        while place is not None:
            page = PAGES.page(connection, place, 3)
            pages.append([row[0] for row in page.rows])
            place = page.following
    assert pages == [["B", "a", "c"], ["ä"]]


@pytest.mark.only("postgresql", because="SQLite compares the bytes unless told otherwise")
def test_pages_follow_the_bytes_of_ids_whatever_the_collation_of_an_adopted_table(mirror: Engine) -> None:
    assert plan_of(mirror, first_page)[1] == "->  Index Scan using ingress_invites_pkey on ingress_invites"
    write(mirror, 'ALTER TABLE ingress_invites ALTER COLUMN id TYPE TEXT COLLATE "pg_unicode_fast"')
    assert 'Sort Key: ((id)::text) COLLATE "C"' in plan_of(mirror, first_page)


def first_page(connection: Connection) -> object:
    return PAGES.page(connection, Place("a"), 3)


def test_whole_rows_are_found_by_id_and_unknown_ids_are_absent(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    with reading(mirror) as connection:
        assert PAGES.by_id(connection, ["rec-16197", "no-such"]) == {"rec-16197": tuple(RECORDED.values())}
