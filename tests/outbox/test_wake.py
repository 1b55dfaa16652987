"""The wake-up: sent once the outermost transaction has committed, to every relay that listens."""

import threading
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from outbox import enqueue, upgrade
from outbox.wakeups.wake import WakeListener, listen
from tests.databases import database_url
from tests.outbox.conftest import TOPIC, Outbox, opened
from tests.outbox.listening import hearing


def add(session: Session, key: str = "k") -> None:
    enqueue(session, topic=TOPIC, key=key, version=1, payload="{}")


def test_a_wake_up_is_sent_after_the_commit_and_not_before(box: Outbox) -> None:
    with hearing(box.engine) as woken, Session(box.engine) as session:
        add(session)
        session.flush()
        before = woken()
        session.commit()

        assert (before, woken()) == (0, 1)


def test_the_message_is_visible_to_others_as_soon_as_the_wake_up_arrives(box: Outbox) -> None:
    """A relay's thread, started before the commit, reads the moment it is woken."""
    seen: list[int] = []

    def look_when_woken(listener: WakeListener) -> None:
        listener.wait(None)
        seen.append(len(box.rows()))

    for expected in range(1, 21):
        with listen(box.engine, "relay-1") as listener:
            listener.wait(0)
            thread = threading.Thread(target=look_when_woken, args=(listener,))
            thread.start()
            box.put(f"key-{expected}")
            thread.join()

    assert seen == list(range(1, 21))


def test_a_listener_knows_for_how_long_nobody_woke_it(box: Outbox) -> None:
    with listen(box.engine, "relay-1") as listener:
        listener.wait(0)
        listener.set()
        before = listener.woken_within(60)
        listener.wait(None)
        box.put("k")
        listener.wait(None)

        assert (before, listener.woken_within(60), listener.woken_within(0)) == (False, True, False)


@pytest.mark.only("sqlite", because="NOTIFY may come a moment after the commit")
def test_a_wake_up_is_heard_without_waiting(box: Outbox) -> None:
    with listen(box.engine, "relay-1") as listener:
        box.put("k")

        assert listener.woken_within(60)


def test_a_savepoints_release_wakes_nobody(box: Outbox) -> None:
    with hearing(box.engine) as woken, Session(box.engine) as session:
        with session.begin_nested():
            add(session)
        at_release = woken()
        session.commit()

        assert (at_release, woken()) == (0, 1)


def test_many_messages_of_one_transaction_send_one_wake_up(box: Outbox) -> None:
    with hearing(box.engine) as woken:
        with Session(box.engine) as session, session.begin():
            for key in "abc":
                add(session, key)

        assert woken() == 1


def test_each_transaction_of_a_session_that_enqueues_sends_its_own(box: Outbox) -> None:
    with hearing(box.engine) as woken, Session(box.engine) as session:
        add(session)
        session.commit()
        first = woken()
        session.connection()
        session.commit()
        nothing_enqueued = woken()
        add(session, "b")
        session.commit()

        assert (first, nothing_enqueued, woken()) == (1, 0, 1)


def test_every_listener_is_woken(box: Outbox) -> None:
    with hearing(box.engine, "a") as one, hearing(box.engine, "b") as two, hearing(box.engine, "c") as three:
        box.put()

        assert [each() for each in (one, two, three)] == [1, 1, 1]


def test_a_listener_waits_no_longer_than_until_the_wake_up(box: Outbox) -> None:
    with listen(box.engine, "relay-1") as one, listen(box.engine, "relay-2") as two:
        assert (one.problem, two.problem) == (None, None)
        one.wait(0)
        two.wait(0)
        box.put()

        # Without the wake-up either would wait for ever, and the test would time out.
        one.wait(None)
        two.wait(None)


def test_set_ends_the_next_wait(box: Outbox) -> None:
    with listen(box.engine, "relay-1") as listener:
        listener.wait(0)
        listener.set()

        listener.wait(None)


def test_a_wake_up_of_another_database_is_not_heard(box: Outbox, tmp_path: Path, backend: str) -> None:
    with (
        database_url(backend, tmp_path, "other.db") as url,
        opened(url) as other,
        hearing(box.engine) as woken,
        hearing(other) as woken_there,
    ):
        upgrade(other)
        with Session(other) as session, session.begin():
            add(session)

        assert (woken_there(), woken()) == (1, 0)
