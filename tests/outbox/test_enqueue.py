"""P1 for any row: a message commits with the caller's transaction or not at all."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from outbox import Origin, OutboxFullError, enqueue, shard_of, statements, writing
from outbox.enqueue import enqueue_many
from outbox.message import Destination
from tests.conftest import rows
from tests.outbox.conftest import TOPIC, Outbox

GATEWAY = Destination.GATEWAY


def add_thing(session: Session, name: str) -> None:
    """A row of the caller's, and the message that copies it."""
    session.execute(text("INSERT INTO things VALUES (:name)"), {"name": name})
    enqueue(session, topic=TOPIC, key=name, version=1, payload="{}")


def things_and_keys(box: Outbox) -> tuple[list[str], list[str]]:
    things = [row["name"] for row in rows(box.engine, "SELECT name FROM things ORDER BY name")]
    return things, [row["key"] for row in rows(box.engine, "SELECT key FROM outbox_messages ORDER BY key")]


def test_a_message_commits_with_the_row_it_copies(box: Outbox) -> None:
    with Session(box.engine) as session, session.begin():
        add_thing(session, "a")

    assert things_and_keys(box) == (["a"], ["a"])


def test_enqueue_never_commits(box: Outbox) -> None:
    with Session(box.engine) as session:
        add_thing(session, "a")
        session.rollback()

    assert things_and_keys(box) == ([], [])


def test_an_exception_takes_row_and_message_with_it(box: Outbox) -> None:
    def fail_late() -> None:
        with Session(box.engine) as session, session.begin():
            add_thing(session, "a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_late()

    assert things_and_keys(box) == ([], [])


def test_a_savepoint_rolled_back_takes_its_message_with_it(box: Outbox) -> None:
    with Session(box.engine) as session, session.begin():
        add_thing(session, "a before")
        with session.begin_nested() as savepoint:
            add_thing(session, "inside")
            savepoint.rollback()
        add_thing(session, "z after")

    assert things_and_keys(box) == (["a before", "z after"], ["a before", "z after"])


def test_a_released_savepoint_goes_with_the_transaction_around_it(box: Outbox) -> None:
    with Session(box.engine) as session:
        with session.begin_nested():
            add_thing(session, "inside")
        session.rollback()

    assert things_and_keys(box) == ([], [])


def test_a_statement_refused_later_in_the_transaction_takes_the_message_with_it(box: Outbox) -> None:
    def insert_a_refused_row() -> None:
        with Session(box.engine) as session, session.begin():
            add_thing(session, "a")
            session.execute(text("INSERT INTO things VALUES (NULL)"))

    with pytest.raises(IntegrityError):
        insert_a_refused_row()

    assert things_and_keys(box) == ([], [])


def test_a_new_message_is_pending_in_the_shard_of_its_key(box: Outbox) -> None:
    seq = box.put("the key", 7, '{"a":1}', Origin.REPLAY)

    row = box.row(seq)

    assert row.pop("enqueued_at") > 0
    assert row == {
        "seq": seq,
        "topic": TOPIC,
        "key": "the key",
        "version": 7,
        "shard": shard_of("the key"),
        "payload": '{"a":1}',
        "origin": "replay",
        "state": "pending",
        "attempts": 0,
        "available_at": None,
        "last_error": None,
        "settled_at": None,
        "destination": "gateway",
        "refused_for_ms": 0,
        "refused_at": None,
        "crashes": 0,
    }


@pytest.mark.parametrize(
    "odd", [" ", "%", "%s", ":name", "{shard}", "it's", '"', "\\u0041", "é😀", "a\r\n\tb", "null", "1"]
)
def test_a_key_and_a_payload_of_any_text_come_back_as_they_were_and_can_be_settled(box: Outbox, odd: str) -> None:
    seq = box.put(odd, version=2**53 - 1, payload=odd)
    (message,) = box.pending()

    with writing(box.engine) as connection:
        row = (seq, TOPIC, message.key, message.version, message.enqueued_at, 0, 1)
        statements.mark_delivered(connection, Destination.GATEWAY, [row])

    assert (message.key, message.payload, message.version) == (odd, odd, 2**53 - 1)
    assert box.state(seq) == "delivered"


def test_the_shard_of_a_key_is_its_crc32_modulo_64() -> None:
    # Recorded values: another writer of the table, in another language, must compute the same.
    assert {key: shard_of(key) for key in ("", "123456789", "é")} == {"": 0, "123456789": 38, "é": 62}


def test_enqueueing_no_rows_writes_nothing(box: Outbox) -> None:
    with Session(box.engine) as session, session.begin():
        enqueue_many(session, session.connection(), GATEWAY, topic=TOPIC, rows=[], origin=Origin.REPLAY)

    assert box.rows() == []


def test_beyond_the_limit_the_callers_transaction_goes_on_and_nothing_is_enqueued(box: Outbox) -> None:
    limited = box.open(max_unsettled=2)
    with Session(limited) as session, session.begin():
        add_thing(session, "a")
        enqueue_many(session, session.connection(), GATEWAY, topic=TOPIC, rows=[("b", 1, "{}")], origin=Origin.LIVE)

        with pytest.raises(OutboxFullError, match="limit of 2 unsettled messages; nothing was enqueued"):
            enqueue(session, topic=TOPIC, key="c", version=1, payload="{}")
        session.execute(text("INSERT INTO things VALUES ('still usable')"))

    assert things_and_keys(box) == (["a", "still usable"], ["a", "b"])


def test_a_page_that_does_not_fit_the_limit_is_refused_as_a_whole(box: Outbox) -> None:
    limited = box.open(max_unsettled=2)
    page = [(name, 1, "{}") for name in ("a", "b", "c")]

    with pytest.raises(OutboxFullError), Session(limited) as session, session.begin():
        enqueue_many(session, session.connection(), GATEWAY, topic=TOPIC, rows=page, origin=Origin.REPLAY)

    assert box.rows() == []


def test_the_limit_counts_pending_and_retrying_and_no_settled_message(box: Outbox) -> None:
    box.put("settled", state="delivered", settled_at=1)
    box.put("dead", state="dead", settled_at=1)
    box.put("waits", state="retrying", available_at=1)
    limited = box.open(max_unsettled=2)

    with Session(limited) as session, session.begin():
        enqueue(session, topic=TOPIC, key="fits", version=1, payload="{}")
        with pytest.raises(OutboxFullError):
            enqueue(session, topic=TOPIC, key="does not", version=1, payload="{}")

    assert [row["key"] for row in box.rows("state = 'pending'")] == ["fits"]


def test_the_number_of_a_deleted_newest_message_never_comes_back(box: Outbox) -> None:
    deleted = box.put("a")
    with Session(box.engine) as session, session.begin():
        session.execute(text("DELETE FROM outbox_messages"))

    assert box.put("b") > deleted
