"""The store's identity, whose invites it mirrors, and the count of applied batches that tells a restored copy."""

from pathlib import Path

import pytest

import gateway_store
from gateway_store.errors import OtherAssistantError
from gateway_store.identity import claim, count_batch, store_facts
from outbox import SchemaRefusedError, reading, writing
from tests.conftest import Stores, write
from tests.databases import database_url
from tests.outbox.conftest import opened


def test_a_store_gets_an_identity_of_its_own_that_upgrading_again_leaves_as_it_is(stores: Stores) -> None:
    with reading(stores.mirror) as connection:
        made = store_facts(connection)
    gateway_store.upgrade(stores.mirror)

    with reading(stores.mirror) as connection:
        assert store_facts(connection) == made
    assert len(made.identity) == 32
    assert (made.drained_from, made.batches) == (None, 0)


def test_two_stores_have_two_identities(tmp_path: Path, backend: str) -> None:
    found = set()
    for name in ("one.db", "two.db"):
        with database_url(backend, tmp_path, name) as url, opened(url) as engine:
            gateway_store.upgrade(engine)
            with reading(engine) as connection:
                found.add(store_facts(connection).identity)

    assert len(found) == 2


def test_the_first_assistant_claims_the_mirror_and_another_is_refused_unless_it_takes_over(stores: Stores) -> None:
    with writing(stores.mirror) as connection:
        claim(connection, "a" * 32)
        claim(connection, "a" * 32)
        with pytest.raises(OtherAssistantError, match="a" * 32):
            claim(connection, "b" * 32)
        assert store_facts(connection).drained_from == "a" * 32
        assert claim(connection, "b" * 32, take_over=True).drained_from == "b" * 32

    with reading(stores.mirror) as connection:
        assert store_facts(connection).drained_from == "b" * 32


def test_batches_are_counted_from_one_and_the_count_can_be_read(stores: Stores) -> None:
    counted = []
    for _ in range(3):
        with writing(stores.mirror) as connection:
            counted.append(count_batch(connection).batches)

    with reading(stores.mirror) as connection:
        assert (counted, store_facts(connection).batches) == ([1, 2, 3], 3)


@pytest.mark.only("postgresql", because="on SQLite a writing transaction is alone from its start")
def test_a_batch_that_is_being_applied_holds_up_no_other(stores: Stores) -> None:
    with opened(stores.mirror_url, busy_timeout=0) as impatient, writing(stores.mirror) as first:
        one = count_batch(first).batches
        with writing(impatient) as second:
            two = count_batch(second).batches

    assert (one, two) == (1, 2)


def test_a_table_of_another_origin_under_the_identitys_name_is_refused(tmp_path: Path, backend: str) -> None:
    with database_url(backend, tmp_path, "gateway.db") as url, opened(url) as engine:
        write(engine, "CREATE TABLE store_identity (mine TEXT)")

        with pytest.raises(SchemaRefusedError, match=r"another use for names .*: store_identity; rename or drop"):
            gateway_store.upgrade(engine)
