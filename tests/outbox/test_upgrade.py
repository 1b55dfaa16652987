"""From the schema of 0.1.0: every honest row as it was, every other one mended and kept, the numbers going on."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import outbox
from outbox import SchemaRefusedError, State, enqueue, open_engine, shard_of, writing
from outbox.leases import LONGEST_LEASE, Leases
from outbox.message import Destination
from tests.conftest import rows, write
from tests.crash import run_killed_at_each_step
from tests.databases import database_url
from tests.outbox.conftest import opened
from tests.outbox.first_schema import SETTLED_AT, make_first, put, put_honest
from tests.outbox.test_migrate import schema, upgrade
from tests.outbox.threads import start_behind_a_lock

ADDED = {"destination": "gateway", "refused_for_ms": 0, "refused_at": None, "crashes": 0}
MOST = 2**53 - 1
LARGEST = 2**63 - 1
STOPPED = "relays in a row stopped while delivering it: "


@pytest.fixture
def first(tmp_path: Path, backend: str) -> Iterator[Engine]:
    """An outbox of 0.1.0."""
    with database_url(backend, tmp_path, "daemon.db") as url, opened(url) as engine:
        make_first(engine)
        yield engine


def messages(engine: Engine) -> list[dict[str, Any]]:
    return rows(engine, "SELECT * FROM outbox_messages ORDER BY seq")


def upgraded(engine: Engine, key: str = "odd", **columns: Any) -> dict[str, Any]:
    """What the upgrade makes of one message, beside honest ones that it must leave alone."""
    with writing(engine) as connection:
        put(connection, "before")
        put(connection, key, **columns)
        put(connection, "after", seq=900)
    outbox.upgrade(engine)
    found = messages(engine)
    assert len(found) == 3
    (odd,) = [row for row in found if row["key"] not in ("before", "after")]
    return odd


def enqueue_one(engine: Engine, key: str = "new") -> int:
    with Session(engine) as session, session.begin():
        enqueue(session, topic="letter", key=key, version=1, payload="{}")
        seq: int = session.execute(text("SELECT max(seq) FROM outbox_messages")).scalar_one()
    return seq


def test_every_honest_row_comes_through_as_it_was(first: Engine) -> None:
    with writing(first) as connection:
        put_honest(connection)
    before = messages(first)

    outbox.upgrade(first)

    assert messages(first) == [row | ADDED for row in before]


def test_an_upgraded_schema_is_the_one_that_a_new_database_gets(first: Engine, tmp_path: Path, backend: str) -> None:
    with writing(first) as connection:
        put_honest(connection)
    outbox.upgrade(first)

    with database_url(backend, tmp_path, "new.db") as url, opened(url) as new:
        outbox.upgrade(new)
        assert schema(first) == schema(new)


@pytest.mark.parametrize("pruned", [False, True], ids=["kept", "pruned"])
def test_numbers_go_on_from_the_highest_given_out(first: Engine, pruned: bool) -> None:
    numbers = [enqueue_one(first, str(number)) for number in range(3)]
    if pruned:
        write(first, "DELETE FROM outbox_messages WHERE seq > 1")

    outbox.upgrade(first)

    assert enqueue_one(first) == numbers[-1] + 1


def test_an_empty_outbox_begins_at_one(first: Engine) -> None:
    outbox.upgrade(first)

    assert enqueue_one(first) == 1


@pytest.mark.parametrize("seq", [-LARGEST, -5, 0, LARGEST, LARGEST - 1, 2**62, MOST], ids=str)
def test_a_number_that_no_message_can_have_is_given_anew_and_numbers_go_on(first: Engine, seq: int) -> None:
    found = upgraded(first, seq=seq)

    assert (found["seq"], found["state"]) == (901, "pending")
    assert enqueue_one(first) == 902


def test_a_number_too_high_that_was_pruned_leaves_the_sequence_where_it_was(first: Engine, backend: str) -> None:
    enqueue_one(first)
    with writing(first) as connection:
        put(connection, "forged", seq=LARGEST)
    if backend == "postgresql":
        write(first, f"SELECT setval('outbox_messages_seq_seq', {LARGEST})")
    write(first, "DELETE FROM outbox_messages WHERE seq > 1")

    outbox.upgrade(first)

    assert enqueue_one(first) == 2


@pytest.mark.parametrize(
    ("columns", "after"),
    [
        ({"attempts": LARGEST}, {"attempts": 2**31 - 1}),
        ({"enqueued_at": LARGEST}, {"enqueued_at": MOST}),
        ({"enqueued_at": -LARGEST}, {"enqueued_at": -MOST}),
        ({"state": "retrying", "available_at": LARGEST}, {"available_at": MOST}),
        ({"state": "delivered", "settled_at": -LARGEST}, {"settled_at": -MOST}),
        ({"state": "delivered", "settled_at": 1, "version": LARGEST}, {"version": MOST}),
    ],
    ids=lambda columns: " ".join(map(str, columns.values())),
)
def test_a_number_out_of_bounds_becomes_the_nearest_and_the_message_stays_what_it_is(
    first: Engine, columns: dict[str, Any], after: dict[str, Any]
) -> None:
    found = upgraded(first, **columns)

    assert after.items() <= found.items()
    assert (found["state"], found["last_error"]) == (columns.get("state", "pending"), None)


UNBELIEVABLE = {
    "version": ({"version": LARGEST}, f"the version {LARGEST}"),
    "lowest version": ({"version": -LARGEST}, f"the version {-LARGEST}"),
    "no key": ({"key": ""}, "an empty key"),
    "no topic": ({"topic": ""}, "an empty topic"),
    "long key": ({"key": "k" * 65_537}, "a key of 65537 bytes"),
    "long topic": ({"topic": "é" * 513}, "a topic of 1026 bytes"),
    "payload": (
        {"payload": "é" * (8 * 2**20 + 1)},
        "a payload of 16777218 bytes, of which the first 65536 are kept",
    ),
}
ONLY_IN_SQLITE = {
    "NUL in the key": ({"key": "a\0b"}, "a NUL in its key"),
    "NUL in the topic": ({"topic": "\0"}, "a NUL in its topic"),
    "NUL in the payload": ({"payload": "{}\0" + "x" * 9}, "a NUL in its payload"),
}
WAITING = {
    "pending": {},
    "retrying": {"state": "retrying", "available_at": 1, "last_error": "no"},
    "dead": {"state": "dead", "settled_at": SETTLED_AT},
}


@pytest.mark.parametrize("waiting", WAITING.values(), ids=WAITING)
@pytest.mark.parametrize(("columns", "words"), UNBELIEVABLE.values(), ids=UNBELIEVABLE)
def test_what_cannot_be_believed_is_dead_with_a_reason_and_holds_nothing_up(
    first: Engine, columns: dict[str, Any], words: str, waiting: dict[str, Any]
) -> None:
    check_dead(upgraded(first, **{"key": "odd", **columns}, **waiting), words)


@pytest.mark.only("sqlite", because="PostgreSQL stores no NUL")
@pytest.mark.parametrize(("columns", "words"), ONLY_IN_SQLITE.values(), ids=ONLY_IN_SQLITE)
def test_a_text_with_a_nul_is_dead_with_a_reason(first: Engine, columns: dict[str, Any], words: str) -> None:
    check_dead(upgraded(first, **{"key": "odd", **columns}), words)


def check_dead(found: dict[str, Any], words: str) -> None:
    assert found["state"] == State.DEAD
    assert found["last_error"].startswith(f"found by the upgrade with {words}, which no message can have")
    assert found["version"] == -MOST, "a dead message of a high version holds up the later ones of its key"
    assert found["shard"] == shard_of(found["key"])
    assert "\0" not in found["key"] + found["topic"] + found["payload"]


@pytest.mark.only("sqlite", because="PostgreSQL stores no text that is not in its encoding")
def test_text_that_is_no_utf8_is_kept_byte_for_byte(first: Engine) -> None:
    odd = {"topic": b"\xff", "payload": b"{\xfe}", "last_error": b"\xfd"}
    with writing(first) as connection:
        put(connection, "k", **odd)
    stored = "SELECT hex(topic) || ' ' || hex(payload) || ' ' || hex(last_error) AS bytes FROM outbox_messages"
    before = rows(first, stored)

    outbox.upgrade(first)

    assert rows(first, stored) == before == [{"bytes": "FF 7BFE7D FD"}]


@pytest.mark.only("sqlite", because="PostgreSQL stores no NUL")
def test_a_reason_that_is_longer_than_its_length_says_is_cut(first: Engine) -> None:
    found = upgraded(first, state="retrying", available_at=1, last_error="no\0" + "é" * 100_000)

    assert found["state"] == "retrying"
    assert found["last_error"].startswith("no\\x00éé")
    assert len(found["last_error"]) <= 2_000


@pytest.mark.parametrize(
    ("last_error", "crashes"),
    [
        (f"{STOPPED}4", 4),
        (f"{STOPPED}6", 0),
        (f"{STOPPED}{'9' * 900}", 0),
        (f"{STOPPED}4; look at it with `relay dead show 4`", 0),
        (f"given up: {STOPPED}4", 0),
        (None, 0),
    ],
    ids=["counted", "more than any", "forged", "ended", "within other words", "none"],
)
def test_crashes_that_were_counted_in_words_are_counted_in_their_column(
    first: Engine, last_error: str | None, crashes: int
) -> None:
    found = upgraded(first, attempts=4, last_error=last_error)

    assert (found["crashes"], found["last_error"], found["attempts"]) == (crashes, last_error, 4)


def test_leases_keep_owner_and_end_and_their_relay_settles_nothing_more(first: Engine) -> None:
    with freeze_time("2024-01-01"):
        write(first, "INSERT INTO outbox_leases VALUES (7, 'crashed', 'its token', 5)")
        write(first, "INSERT INTO outbox_relays VALUES ('crashed', 'h', 1, 1, 1)")

        outbox.upgrade(first)

    (lease,) = rows(first, "SELECT * FROM outbox_leases")
    token = lease.pop("token")
    assert lease == {
        "destination": "gateway",
        "shard": 7,
        "owner": "crashed",
        "expires_at": 5,
        "length_ms": LONGEST_LEASE.total_seconds() * 1000,
    }
    assert token != "its token"
    assert rows(first, "SELECT * FROM outbox_relays") == []
    assert Leases(first, LONGEST_LEASE, Destination.GATEWAY, owner="next").balance() == [[7]]


@pytest.mark.only("sqlite", because="a table that is altered in place keeps what others made on it")
def test_indexes_and_triggers_of_others_on_the_messages_survive(first: Engine) -> None:
    write(first, "CREATE TABLE noted (key TEXT)")
    write(first, "CREATE INDEX theirs ON outbox_messages (enqueued_at)")
    write(
        first,
        "CREATE TRIGGER theirs_too AFTER INSERT ON outbox_messages BEGIN INSERT INTO noted VALUES (new.key); END",
    )
    write(first, "CREATE VIEW waiting AS SELECT key FROM outbox_messages WHERE state = 'pending'")
    with writing(first) as connection:
        put(connection, "a")

    outbox.upgrade(first)

    enqueue_one(first, "b")
    assert [row["key"] for row in rows(first, "SELECT key FROM noted")] == ["a", "b"]
    assert [row["key"] for row in rows(first, "SELECT key FROM waiting")] == ["a", "b"]
    assert rows(first, "SELECT name FROM sqlite_master WHERE name = 'theirs'") == [{"name": "theirs"}]


@pytest.mark.parametrize("name", ["outbox_identity", "outbox_routes", "outbox_messages_new"])
def test_a_table_of_another_origin_under_a_new_name_is_refused_and_left_as_it_is(first: Engine, name: str) -> None:
    write(first, f"CREATE TABLE {name} (mine TEXT)")
    before = schema(first)

    with pytest.raises(SchemaRefusedError, match=f"has tables of another origin: {name}; rename them"):
        outbox.upgrade(first)

    assert schema(first) == before


@contextmanager
def runs(tmp_path: Path, backend: str) -> Iterator[tuple[list[Engine], Any]]:
    """What `run_killed_at_each_step` needs: fresh outboxes of 0.1.0, each with honest rows and odd ones."""
    engines: list[Engine] = []
    with ExitStack() as stack:

        def arrange() -> str:
            url = stack.enter_context(database_url(backend, tmp_path, f"{len(engines)}.db"))
            engines.append(stack.enter_context(opened(url)))
            make_first(engines[-1])
            with writing(engines[-1]) as connection:
                put_honest(connection)
                put(connection, "odd", seq=-7, version=LARGEST)
                put(connection, "", seq=LARGEST)
            write(engines[-1], "INSERT INTO outbox_leases VALUES (7, 'crashed', 'its token', 5)")
            return url

        yield engines, arrange


def test_an_upgrade_killed_at_any_step_leaves_all_as_it_was_or_upgraded_and_can_be_repeated(
    tmp_path: Path, backend: str
) -> None:
    with runs(tmp_path, backend) as (engines, arrange_one):
        befores: list[Any] = []

        def check_last() -> None:
            last = engines[-1]
            is_old = rows(last, "SELECT version_num FROM outbox_schema_version") == [{"version_num": "0001"}]
            if is_old:
                assert (schema(last), messages(last)) == befores[-1]
            outbox.upgrade(last)
            kept = [row for row in messages(last) if row["key"] not in ("odd", "?")]
            assert kept == [row | ADDED for row in befores[-1][1] if row["key"] not in ("odd", "")]
            assert [row["state"] for row in messages(last) if row["key"] in ("odd", "?")] == ["dead", "dead"]
            assert enqueue_one(last) == max(row["seq"] for row in messages(last)[:-1]) + 1

        def arrange() -> tuple[str]:
            if engines:
                check_last()
            url = arrange_one()
            befores.append((schema(engines[-1]), messages(engines[-1])))
            # The file's locks are one process's alone.
            engines[-1].dispose()
            return (url,)

        kills = run_killed_at_each_step(upgrade, arrange)
        check_last()

    assert kills > 20


OF_THE_FIRST_DAEMON = text(
    "INSERT INTO outbox_messages (topic, key, version, shard, payload, origin, enqueued_at)"
    " VALUES ('letter', :key, 1, 1, '{}', 'live', 1)"
)


def test_a_daemon_of_the_first_version_goes_on_enqueueing_after_the_upgrade(first: Engine) -> None:
    daemon = open_engine(first.url)
    with daemon.connect() as connection:
        with connection.begin():
            connection.execute(OF_THE_FIRST_DAEMON, {"key": "before"})
        outbox.upgrade(first)
        with connection.begin():
            connection.execute(OF_THE_FIRST_DAEMON, {"key": "after"})
    daemon.dispose()

    assert [(row["key"], row["destination"]) for row in messages(first)] == [
        ("before", "gateway"),
        ("after", "gateway"),
    ]


@pytest.mark.only("postgresql", because="on SQLite a writing transaction is alone from its start")
def test_an_upgrade_waits_for_a_daemon_in_mid_transaction_and_one_that_comes_meanwhile_goes_on_after_it(
    first: Engine,
) -> None:
    def enqueue_as_first() -> None:
        with writing(late) as connection:
            connection.execute(OF_THE_FIRST_DAEMON, {"key": "came meanwhile"})

    with opened(first.url) as upgrading, opened(first.url) as late:
        with writing(first) as connection:
            connection.execute(OF_THE_FIRST_DAEMON, {"key": "under way"})
            upgraded = start_behind_a_lock(first, lambda: outbox.upgrade(upgrading))
            enqueued = start_behind_a_lock(first, enqueue_as_first)
        upgraded.result()
        enqueued.result()

    assert [row["key"] for row in messages(first)] == ["under way", "came meanwhile"]
