"""Enqueueing for a replay, beside others who write: they get their turns, and no row goes back to an older state."""

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

import assistant_store
from outbox import open_engine
from relay.replay import PAGE, enqueue_selected
from relay.topics import Selection
from tests.conftest import Stores, rows, write
from tests.outbox.turns import transactions_before_anothers_turn
from tests.relay.rig import create_many

ALL = Selection()


@pytest.mark.only("sqlite", because="a PostgreSQL server has no lock that a writer of other rows waits for")
def test_another_writer_gets_its_turn_between_two_pages(stores: Stores) -> None:
    create_many(stores, 4 * PAGE + 1)

    turn, all_ = transactions_before_anothers_turn(
        stores.source, lambda: enqueue_selected(stores.source, ALL, lambda _: None)
    )

    assert 0 < turn < all_ == 5


def test_a_row_is_read_in_the_transaction_that_enqueues_it(stores: Stores) -> None:
    ids = [stores.create(max_uses=9).invite.id for _ in range(3)]
    daemon = open_engine(stores.source_url)

    def use_each(*_: object) -> None:
        """Before each transaction of the replay the daemon changes all its rows, and a relay delivers them."""
        with Session(daemon) as session, session.begin():
            for id_ in ids:
                assert assistant_store.record_invite_use(session, id_) is not None
        write(daemon, "UPDATE outbox_messages SET state = 'delivered', settled_at = 1 WHERE origin = 'live'")

    event.listen(stores.source, "checkout", use_each)
    done = enqueue_selected(stores.source, ALL, lambda _: None)
    event.remove(stores.source, "checkout", use_each)
    daemon.dispose()

    assert done.enqueued == 3
    query = "SELECT key, version, origin FROM outbox_messages ORDER BY key, seq"
    newest: dict[str, tuple[str, int]] = {}
    for row in rows(stores.source, query):
        if row["origin"] == "replay":
            assert newest[row["key"]] == ("live", row["version"])
        newest[row["key"]] = (row["origin"], row["version"])
    assert {origin for origin, _ in newest.values()} == {"replay"}
