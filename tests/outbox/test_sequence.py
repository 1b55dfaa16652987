"""Messages whose numbers came without their sequence: who enqueues is told the cure, and an upgrade is the cure."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import table, text
from sqlalchemy.exc import DBAPIError, PendingRollbackError
from sqlalchemy.orm import Session

import outbox
from assistant_store import create_invite
from outbox import Destination, InvalidMessageError, SequenceError, enqueue, writing
from outbox.enqueue import enqueue_many, with_its_message
from tests.conftest import Stores, rows, write
from tests.outbox.conftest import TOPIC, Outbox
from tests.outbox.threads import start_behind_a_lock
from tests.system.forging import insert_unchecked, quoted

LARGEST = 2**63 - 1
THINGS = table("things")
GATEWAY = Destination.GATEWAY
ONLY_POSTGRESQL = pytest.mark.only("postgresql", because="SQLite goes on from the largest number by itself")
ONLY_SQLITE = pytest.mark.only("sqlite", because="a sequence of PostgreSQL's does not look at the rows")
ROW = """
    INSERT INTO outbox_messages (seq, topic, key, version, shard, payload, enqueued_at)
    VALUES (:seq, 'letter', :key, 1, 0, '{}', 1)
"""


def restore_rows(box: Outbox, *seqs: int) -> None:
    """As a restore of the rows alone does, or a logical replication; past the rules, as an earlier release had none."""
    if box.engine.dialect.name == "sqlite":
        for trigger in rows(box.engine, "SELECT name FROM sqlite_master WHERE type = 'trigger'"):
            write(box.engine, f"DROP TRIGGER {trigger['name']}")
    for seq in seqs:
        columns = {"seq": str(seq), "topic": "'letter'", "key": quoted(f"restored {seq}"), "version": "1", "shard": "0"}
        insert_unchecked(box.engine, "outbox_messages", columns | {"payload": "'{}'", "enqueued_at": "1"})


def last_given_out(box: Outbox) -> int:
    found = "SELECT pg_sequence_last_value(pg_get_serial_sequence('outbox_messages', 'seq')::regclass) AS last"
    (row,) = rows(box.engine, found.replace("::", "\\:\\:"))
    last: int = row["last"]
    return last


def add_thing_with_its_message(session: Session) -> None:
    with with_its_message(session, THINGS):
        session.execute(text("INSERT INTO things VALUES ('with it')"))
        enqueue(session, topic=TOPIC, key="refused", version=1, payload="{}")


@ONLY_POSTGRESQL
def test_a_number_that_is_taken_is_an_error_with_its_cure_and_leaves_the_transaction_usable(stores: Stores) -> None:
    write(stores.source, ROW, seq=1, key="restored")
    with Session(stores.source) as session, session.begin():
        with pytest.raises(SequenceError, match=r"behind its messages.*nothing was enqueued.*`relay init`"):
            create_invite(session, source_channel="telegram", contact_id="co-1")
        session.execute(text("UPDATE outbox_messages SET key = 'still usable'"))
    assert [row["key"] for row in stores.messages()] == ["still usable"]
    assert rows(stores.source, "SELECT id FROM assistant_ingress_invites") == []


@ONLY_POSTGRESQL
def test_of_many_messages_at_once_too(box: Outbox) -> None:
    restore_rows(box, 2)
    messages = [("a", 1, "{}"), ("b", 1, "{}")]
    with Session(box.engine) as session:
        connection = session.connection()
        with pytest.raises(SequenceError, match="`relay init`"):
            enqueue_many(session, connection, GATEWAY, topic=TOPIC, rows=messages, origin=outbox.Origin.LIVE)
    assert [row["key"] for row in box.rows()] == ["restored 2"]


@ONLY_POSTGRESQL
@pytest.mark.parametrize("given_out_before", [0, 3])
def test_an_upgrade_lifts_the_sequence_to_the_largest_number(box: Outbox, given_out_before: int) -> None:
    for number in range(given_out_before):
        box.put(f"k{number}")
    restore_rows(box, 7, 5)
    outbox.upgrade(box.engine)
    assert [box.put("a"), box.put("b")] == [8, 9]


@ONLY_POSTGRESQL
@pytest.mark.parametrize("rows_left", [0, 2])
def test_an_upgrade_never_lowers_a_sequence(box: Outbox, rows_left: int) -> None:
    for number in range(5):
        box.put(f"k{number}")
    write(box.engine, "DELETE FROM outbox_messages WHERE seq > :left", left=rows_left)
    outbox.upgrade(box.engine)
    assert last_given_out(box) == 5
    assert box.put("next") == 6


@ONLY_POSTGRESQL
def test_a_sequence_is_lifted_behind_those_who_enqueue_and_nobody_gets_a_number_twice(box: Outbox) -> None:
    restore_rows(box, 3)
    with Session(box.engine) as session, session.begin():
        enqueue(session, topic=TOPIC, key="first", version=1, payload="{}")
        lifted = start_behind_a_lock(box.engine, lambda: outbox.upgrade(box.engine))
        # The lock that the lifting waits for is this transaction's; others wait behind it, and come with new numbers.
        enqueue(session, topic=TOPIC, key="second", version=1, payload="{}")
    lifted.result(30)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(box.put, [f"later {number}" for number in range(20)]))
    assert [row["seq"] for row in box.rows()] == list(range(1, 24))


@ONLY_POSTGRESQL
def test_an_upgrade_that_has_nothing_to_lift_waits_for_nobody(box: Outbox) -> None:
    impatient = box.open(busy_timeout=0.001)
    with Session(box.engine) as session, session.begin():
        enqueue(session, topic=TOPIC, key="k", version=1, payload="{}")
        outbox.upgrade(impatient)


@ONLY_POSTGRESQL
def test_a_sequence_at_its_end_is_an_error_with_its_cure(box: Outbox) -> None:
    box.put("a")
    write(box.engine, f"SELECT setval('outbox_messages_seq_seq', {LARGEST})")
    with Session(box.engine) as session, pytest.raises(SequenceError, match=r"no number left.*`relay init`"):
        enqueue(session, topic=TOPIC, key="b", version=1, payload="{}")
    outbox.upgrade(box.engine)
    assert box.put("b") == 2


@ONLY_POSTGRESQL
def test_a_message_with_the_largest_number_does_not_take_the_sequence_there(box: Outbox) -> None:
    restore_rows(box, 4, LARGEST)
    outbox.upgrade(box.engine)
    box.put("a")
    assert [(row["seq"], row["key"]) for row in box.rows("seq < 10")] == [(4, "restored 4"), (5, "a")]


def test_another_broken_rule_keeps_its_own_error(box: Outbox) -> None:
    with Session(box.engine) as session, pytest.raises(InvalidMessageError, match="version"):
        enqueue(session, topic=TOPIC, key="k", version=None, payload="{}")  # type: ignore[arg-type]


@ONLY_SQLITE
@pytest.mark.parametrize("change", ["DELETE FROM sqlite_sequence", "UPDATE sqlite_sequence SET seq = 1"])
def test_a_lost_sequence_of_sqlite_lifts_itself(box: Outbox, change: str) -> None:
    restore_rows(box, 7)
    write(box.engine, change)
    assert [box.put("a"), box.put("b")] == [8, 9]


@ONLY_SQLITE
@pytest.mark.parametrize("how", ["a message", "the sequence"])
def test_the_largest_number_is_an_error_with_its_cure_and_the_cure_cures(box: Outbox, how: str) -> None:
    first = box.put("first")
    if how == "a message":
        restore_rows(box, LARGEST)
    else:
        write(box.engine, f"UPDATE sqlite_sequence SET seq = {LARGEST}")
    with Session(box.engine) as session, pytest.raises(SequenceError, match=r"no number left.*`relay init`"):
        enqueue(session, topic=TOPIC, key="refused", version=1, payload="{}")

    outbox.upgrade(box.engine)

    kept = ["first", f"restored {LARGEST}"] if how == "a message" else ["first"]
    assert box.put("next") == first + len(kept)
    assert [row["key"] for row in box.rows()] == [*kept, "next"]


@ONLY_SQLITE
def test_a_transaction_that_sqlite_has_ended_is_not_gone_on_with_statement_by_statement(box: Outbox) -> None:
    restore_rows(box, LARGEST)
    with Session(box.engine) as session:
        session.execute(text("INSERT INTO things VALUES ('before')"))
        with pytest.raises(SequenceError):
            add_thing_with_its_message(session)
        with pytest.raises(PendingRollbackError):
            session.execute(text("INSERT INTO things VALUES ('after')"))
        session.rollback()
        session.execute(text("INSERT INTO things VALUES ('a new transaction')"))
        session.commit()
    assert rows(box.engine, "SELECT name FROM things") == [{"name": "a new transaction"}]


@ONLY_SQLITE
def test_a_full_disk_is_not_taken_for_a_sequence_at_its_end(box: Outbox) -> None:
    with writing(box.engine) as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    with box.engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    with Session(box.engine) as session, pytest.raises(DBAPIError, match="disk is full"):
        enqueue(session, topic=TOPIC, key="k", version=1, payload="x" * 100_000)
