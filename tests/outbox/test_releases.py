"""Programs and schemas of two releases: each pair works, or says what to do; no relay misbehaves in silence."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

import outbox
from outbox import Destination, Origin, OutboxFullError, SchemaOutdatedError, enqueue, reading
from outbox.database.migrate import NEWEST, SCRIPTS, schema_problem
from outbox.enqueue import enqueue_many
from outbox.leases import LONGEST_LEASE, Leases
from tests.conftest import rows, write
from tests.databases import database_url
from tests.outbox.conftest import Outbox, opened
from tests.outbox.first_schema import make_first

OLDER = "relay_is_older_than_the_outbox_install_the_new_release"


@pytest.fixture
def first_url(tmp_path: Path, backend: str) -> Iterator[str]:
    with database_url(backend, tmp_path, "daemon.db") as url:
        with opened(url) as engine:
            make_first(engine)
        yield url


def problem(engine: Engine) -> str | None:
    with reading(engine) as connection:
        return schema_problem(connection)


def test_this_release_knows_the_last_of_its_scripts() -> None:
    assert ScriptDirectory(str(SCRIPTS.folder)).get_current_head() == NEWEST


def test_a_schema_of_this_release_is_no_problem(box: Outbox) -> None:
    assert problem(box.engine) is None


def test_a_schema_of_the_first_release_is_named_with_its_cure(first_url: str) -> None:
    with opened(first_url) as engine:
        assert problem(engine) == ("has the outbox of an earlier release; stop every relay, then run `relay init`")
        outbox.upgrade(engine)
        assert problem(engine) is None


def test_a_schema_of_a_later_release_is_named(box: Outbox) -> None:
    write(box.engine, "UPDATE outbox_schema_version SET version_num = '0003'")

    assert problem(box.engine) == (
        "was upgraded by a later release of this program (schema 0003); install that release"
    )


def test_a_database_without_an_outbox_is_named(tmp_path: Path, backend: str) -> None:
    with database_url(backend, tmp_path, "new.db") as url, opened(url) as engine:
        assert problem(engine) == "has no outbox yet; run `relay init`"


def test_a_daemon_of_this_release_enqueues_into_the_first_schema(first_url: str) -> None:
    with opened(first_url) as engine, Session(engine) as session, session.begin():
        enqueue(session, topic="t", key="one", version=1, payload="{}")
        pages = [("two", 1, "{}"), ("three", 1, "{}")]
        enqueue_many(session, session.connection(), Destination.GATEWAY, topic="t", rows=pages, origin=Origin.REPLAY)

    with opened(first_url) as engine:
        assert [row["key"] for row in rows(engine, "SELECT key FROM outbox_messages")] == ["one", "two", "three"]


def test_the_limit_holds_on_the_first_schema_and_after_it_is_upgraded_under_a_running_daemon(first_url: str) -> None:
    with opened(first_url, max_unsettled=1) as engine:
        with Session(engine) as session, session.begin():
            enqueue(session, topic="t", key="one", version=1, payload="{}")
        for _ in range(2):
            with pytest.raises(OutboxFullError), Session(engine) as session, session.begin():
                enqueue(session, topic="t", key="two", version=1, payload="{}")
            outbox.upgrade(engine)


def test_a_message_for_another_destination_needs_the_new_schema_and_says_so(first_url: str) -> None:
    with opened(first_url) as engine, Session(engine) as session, session.begin():
        with pytest.raises(SchemaOutdatedError, match="`relay init` upgrades it"):
            enqueue(session, topic="t", key="k", version=1, payload="{}", destination=Destination.ASSISTANT)
        enqueue(session, topic="t", key="still usable", version=1, payload="{}")


@pytest.mark.parametrize(
    "sign_on",
    [
        "INSERT INTO outbox_relays (id, host, pid, started_at, seen_at) VALUES ('old', 'h', 1, 1, 1)",
        "INSERT INTO outbox_relays (id, host, pid, started_at, seen_at) VALUES ('old', 'h', 1, 1, 1)"
        " ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at",
    ],
)
def test_a_relay_of_the_first_release_cannot_sign_on_and_its_log_says_why(box: Outbox, sign_on: str) -> None:
    with pytest.raises(IntegrityError, match=OLDER):
        write(box.engine, sign_on)

    # Counted among the living, it would be left a share of the shards that nobody drains.
    leases = Leases(box.engine, LONGEST_LEASE, Destination.GATEWAY)
    leases.balance()
    assert len(leases.tokens) == 64


def test_a_relay_of_the_first_release_takes_no_lease(box: Outbox) -> None:
    with pytest.raises(Exception, match=r"ON CONFLICT|destination"):
        write(
            box.engine,
            "INSERT INTO outbox_leases (shard, owner, token, expires_at) VALUES (1, 'old', 't', 1)"
            " ON CONFLICT (shard) DO UPDATE SET owner = excluded.owner",
        )

    assert rows(box.engine, "SELECT * FROM outbox_leases") == []
