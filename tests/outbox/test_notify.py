"""The wake-up on PostgreSQL: one connection that listens, is lost, and comes back; polling needs none of it."""

import pytest
from freezegun import freeze_time
from sqlalchemy.orm import Session

from outbox import Origin, enqueue
from outbox.enqueue import enqueue_many
from outbox.message import Destination
from outbox.wakeups.notify import TRY_AGAIN_SECONDS
from outbox.wakeups.wake import WakeListener, listen
from tests.conftest import rows, write
from tests.outbox.conftest import TOPIC, Outbox, opened
from tests.outbox.listening import hearing

pytestmark = pytest.mark.only("postgresql", because="SQLite's wake-up is a datagram")

LISTENS = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


def cut_off(box: Outbox, listener: WakeListener) -> None:
    """The server ends the connection that listens; returns once ``listener`` has noticed, or never."""
    listener.wait(0)
    assert rows(box.engine, f"SELECT pg_terminate_backend(pid, 60000) AS ended {LISTENS}") == [{"ended": True}]
    while listener.problem is None:
        listener.wait(None)


def test_a_writer_that_sends_no_wake_up_still_enqueues(box: Outbox) -> None:
    quiet = box.open(notify=False)
    with hearing(box.engine) as woken:
        with Session(quiet) as session, session.begin():
            enqueue(session, topic=TOPIC, key="quiet", version=1, payload="{}")
            enqueue_many(
                session,
                session.connection(),
                Destination.GATEWAY,
                topic=TOPIC,
                rows=[("quiet too", 1, "{}")],
                origin=Origin.REPLAY,
            )
        unheard = woken()
        box.put("loud")

        assert (unheard, woken()) == (0, 1)

    assert [message.key for message in box.pending()] == ["quiet", "loud", "quiet too"]


def test_a_transaction_rolled_back_wakes_nobody(box: Outbox) -> None:
    with hearing(box.engine) as woken, Session(box.engine) as session:
        enqueue(session, topic=TOPIC, key="k", version=1, payload="{}")
        session.rollback()
        rolled_back = woken()
        enqueue(session, topic=TOPIC, key="k", version=1, payload="{}")
        session.commit()

        assert (rolled_back, woken()) == (0, 1)


def test_what_was_enqueued_before_it_listened_is_looked_for_at_once(box: Outbox) -> None:
    with listen(box.engine, "relay-1") as listener:
        # Would never end: nothing is sent to it.
        listener.wait(None)


def test_a_listener_holds_no_transaction(box: Outbox) -> None:
    # One in a transaction would keep the server's queue of notifications from being emptied, until commits fail.
    with listen(box.engine, "relay-1") as listener:
        box.put()
        listener.wait(None)

        assert rows(box.engine, f"SELECT state {LISTENS}") == [{"state": "idle"}]


def test_a_connection_that_is_lost_ends_the_wait_and_is_said(box: Outbox) -> None:
    with listen(box.engine, "relay-1") as listener:
        cut_off(box, listener)

        assert "server closed the connection" in (listener.problem or "")


def test_while_the_connection_is_lost_waiting_ends_by_time_and_by_set(box: Outbox) -> None:
    with freeze_time("2024-01-01"), listen(box.engine, "relay-1") as listener:
        cut_off(box, listener)
        box.put()

        listener.wait(0.001)
        listener.set()
        listener.wait(None)

        assert listener.problem is not None
        assert rows(box.engine, f"SELECT state {LISTENS}") == []


def test_a_lost_connection_comes_back_and_what_was_missed_is_looked_for_at_once(box: Outbox) -> None:
    with freeze_time("2024-01-01") as clock, listen(box.engine, "relay-1") as listener:
        cut_off(box, listener)
        clock.tick(TRY_AGAIN_SECONDS)

        # Neither would end if it did not listen again, or looked for later messages only.
        listener.wait(None)
        box.put()
        listener.wait(None)

        assert listener.problem is None


def test_a_server_that_takes_no_connection_is_said_without_the_password(box: Outbox) -> None:
    write(box.engine, "CREATE ROLE wrong LOGIN PASSWORD 'secret' CONNECTION LIMIT 0")
    wrong = box.engine.url.set(username="wrong", password="secret")

    with opened(wrong) as engine, listen(engine, "relay-1") as listener:
        listener.set()
        listener.wait(None)

        assert "too many connections" in (listener.problem or "")
        assert "secret" not in (listener.problem or "")
    write(box.engine, "DROP ROLE wrong")


def test_a_closed_listener_leaves_no_connection_behind(box: Outbox) -> None:
    with listen(box.engine, "relay-1"):
        assert len(rows(box.engine, f"SELECT pid {LISTENS}")) == 1

    # Would never end if it stayed.
    while rows(box.engine, f"SELECT pid {LISTENS}"):
        pass
