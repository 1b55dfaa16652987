"""What no message may be is refused by `enqueue` in words, and by the table whoever writes to it."""

from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from outbox import Destination, InvalidMessageError, OutboxError, enqueue
from tests.conftest import rows, write
from tests.outbox.conftest import TOPIC, Outbox

MOST = 2**53 - 1
NO_MESSAGE = {
    "empty key": ({"key": ""}, "a message: its key must not be empty"),
    "empty topic": ({"topic": ""}, "its topic must not be empty"),
    "long key": ({"key": "k" * 65_537}, "its key must have at most 65536 bytes, got 65537"),
    "long key in bytes": ({"key": "é" * 32_769}, "its key must have at most 65536 bytes, got 65538"),
    "long topic": ({"topic": "t" * 1_025}, "its topic must have at most 1024 bytes, got 1025"),
    "long payload": ({"payload": "é" * (8 * 2**20 + 1)}, "'k': its payload must have at most 16777216 bytes"),
    "high version": ({"version": MOST + 1}, r"'k': its version must be an integer within ±\(2\^53 - 1\)"),
    "low version": ({"version": -MOST - 1}, "its version must be an integer"),
    "a version that is text": ({"version": "1"}, "its version must be an integer"),
    "a key that is a number": ({"key": 1}, "its key must be text"),
    "NUL in the key": ({"key": "a\0b"}, "its key has a NUL"),
    "NUL in the topic": ({"topic": "a\0b"}, "its topic has a NUL"),
    "NUL in the payload": ({"payload": "\0"}, "its payload has a NUL"),
    "surrogate in the key": ({"key": "\ud800"}, "its key has a lone surrogate"),
    "surrogate in the topic": ({"topic": "\udfff"}, "its topic has a lone surrogate"),
    "surrogate in the payload": ({"payload": "x\ud800"}, "'k': its payload has a lone surrogate"),
}


@pytest.mark.parametrize(("given", "words"), NO_MESSAGE.values(), ids=NO_MESSAGE)
def test_what_no_message_may_be_is_refused_in_words_and_the_transaction_goes_on(
    box: Outbox, given: dict[str, Any], words: str
) -> None:
    with Session(box.engine) as session, session.begin():
        session.execute(text("INSERT INTO things VALUES ('kept')"))
        with pytest.raises(InvalidMessageError, match=words) as raised:
            enqueue(session, **{"topic": TOPIC, "key": "k", "version": 1, "payload": "{}", **given})

    assert isinstance(raised.value, OutboxError)
    assert isinstance(raised.value, ValueError)
    assert len(str(raised.value)) < 1_000
    assert box.rows() == []
    assert rows(box.engine, "SELECT name FROM things") == [{"name": "kept"}]


@pytest.mark.parametrize(
    "given",
    [
        {"key": "k" * 65_536},
        {"topic": "é" * 512},
        {"payload": "x" * 16 * 2**20},
        {"payload": ""},
        {"version": MOST},
        {"version": -MOST},
    ],
    ids=["key", "topic", "payload", "no payload", "highest version", "lowest version"],
)
def test_what_is_just_within_the_rules_is_stored_as_it_is(box: Outbox, given: dict[str, Any]) -> None:
    whole = {"topic": TOPIC, "key": "k", "version": 1, "payload": "{}", **given}
    with Session(box.engine) as session, session.begin():
        enqueue(session, **whole)

    (row,) = box.rows()
    assert whole.items() <= row.items()


FORGED = {
    "seq 0": ("seq", "0"),
    "negative seq": ("seq", "-5"),
    "largest seq": ("seq", str(2**63 - 1)),
    "seq beyond JSON": ("seq", str(MOST + 1)),
    "version": ("version", str(2**63 - 1)),
    "lowest version": ("version", str(-(2**63) + 1)),
    "attempts": ("attempts", str(2**31)),
    "crashes": ("crashes", str(2**31)),
    "negative crashes": ("crashes", "-1"),
    "negative refusals": ("refused_for_ms", "-1"),
    "enqueued_at": ("enqueued_at", str(2**60)),
    "enqueued_at long ago": ("enqueued_at", str(-(2**60))),
    "available_at": ("available_at", str(MOST + 1)),
    "refused_at": ("refused_at", str(-MOST - 1)),
    "no topic": ("topic", "''"),
    "no key": ("key", "''"),
    "long key": ("key", "'" + "k" * 65_537 + "'"),
    "long payload": ("payload", "'" + "é" * (8 * 2**20 + 1) + "'"),
    "destination": ("destination", "'elsewhere'"),
}
FORGED_IN_SQLITE = {
    "NUL in the key": ("key", "'a' || char(0) || 'b'"),
    "NUL first": ("key", "char(0)"),
    "NUL in the topic": ("topic", "'a' || char(0)"),
    "NUL in the payload": ("payload", "char(0) || '{}'"),
    "a reason longer than it seems": ("last_error", "char(0) || replace(hex(zeroblob(5000)), '0', 'x')"),
    "blob for a text": ("key", "x'ff'"),
    "infinity for a number": ("version", "9e999"),
    "a seq near the end of all numbers": ("seq", str(MOST)),
    "a seq far ahead": ("seq", str(2**41)),
}


@pytest.mark.parametrize(("column", "value"), FORGED.values(), ids=FORGED)
def test_the_table_refuses_what_no_message_may_be_whoever_writes_it(box: Outbox, column: str, value: str) -> None:
    check_refused(box, column, value)


@pytest.mark.only("sqlite", because="PostgreSQL has types, stores no NUL, and counts apart from what is stored")
@pytest.mark.parametrize(("column", "value"), FORGED_IN_SQLITE.values(), ids=FORGED_IN_SQLITE)
def test_sqlites_table_refuses_what_other_databases_cannot_store(box: Outbox, column: str, value: str) -> None:
    check_refused(box, column, value)


def check_refused(box: Outbox, column: str, value: str) -> None:
    """Neither added nor changed into; honest messages go on."""
    seq = box.put()
    before = box.rows()
    whole = {"topic": "'t'", "key": "'k'", "version": "1", "shard": "1", "payload": "'{}'", "enqueued_at": "1"}
    whole |= {column: value}
    for statement in (
        f"INSERT INTO outbox_messages ({', '.join(whole)}) VALUES ({', '.join(whole.values())})",
        f"UPDATE outbox_messages SET {column} = {value}",
    ):
        with pytest.raises(IntegrityError):
            write(box.engine, statement.replace(":", r"\:"))

    assert box.rows() == before
    assert box.put("next") > seq


RELAY = {
    "id": "'a'",
    "destination": "'gateway'",
    "host": "'h'",
    "host_name": "'n'",
    "pid": "1",
    "version": "'1'",
    "gateway": "''",
    "started_at": "1",
    "seen_at": "1",
}
LEASE = {
    "destination": "'gateway'",
    "shard": "1",
    "owner": "'a'",
    "token": "'t'",
    "expires_at": "1",
    "length_ms": "1000",
}


@pytest.mark.parametrize(
    ("table", "honest", "column", "value"),
    [
        ("outbox_relays", RELAY, "pid", str(2**40)),
        ("outbox_relays", RELAY, "pid", "0"),
        ("outbox_relays", RELAY, "pid", "-1"),
        ("outbox_relays", RELAY, "started_at", str(2**60)),
        ("outbox_relays", RELAY, "seen_at", str(2**53 - 1)),
        ("outbox_relays", RELAY, "started_at", str(-(2**53) + 1)),
        ("outbox_relays", RELAY, "down_since", str(2**60)),
        ("outbox_relays", RELAY, "id", "''"),
        ("outbox_relays", RELAY, "destination", "'elsewhere'"),
        ("outbox_leases", LEASE, "length_ms", "60001"),
        ("outbox_leases", LEASE, "length_ms", "0"),
        ("outbox_leases", LEASE, "expires_at", str(2**63 - 1)),
        ("outbox_leases", LEASE, "shard", "64"),
        ("outbox_leases", LEASE, "owner", "''"),
    ],
)
def test_the_tables_of_relays_and_leases_refuse_what_neither_may_be(
    box: Outbox, table: str, honest: dict[str, str], column: str, value: str
) -> None:
    def insert(row: dict[str, str]) -> None:
        write(box.engine, f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(row.values())})")

    with pytest.raises(IntegrityError):
        insert(honest | {column: value})
    insert(honest)

    assert len(rows(box.engine, f"SELECT * FROM {table}")) == 1


def test_the_words_and_the_table_draw_the_same_lines() -> None:
    from outbox import message, rules
    from outbox.database.migrations import tables

    names = ("MAX_TOPIC_BYTES", "MAX_KEY_BYTES")
    assert [getattr(rules, name) for name in names] == [getattr(tables, name) for name in names]
    assert message.MAX_KEPT_BYTES == tables.MAX_PAYLOAD_BYTES
    numbers = ("LARGEST_INTEGER", "LARGEST_COUNT")
    assert [getattr(message, name) for name in numbers] == [getattr(tables, name) for name in numbers]
    assert {one.value for one in Destination} == {"gateway", "assistant"}
