"""The wake-up: sent once the outermost transaction has committed, to every relay that listens."""

import os
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from outbox import enqueue
from outbox.datagram import wake, wake_directory
from outbox.wake import WakeListener, listen_beside
from tests.outbox.conftest import TOPIC, Outbox
from tests.outbox.listening import ear, woken


def add(session: Session, key: str = "k") -> None:
    enqueue(session, topic=TOPIC, key=key, version=1, payload="{}")


def test_a_wake_up_is_sent_after_the_commit_and_not_before(box: Outbox) -> None:
    with ear(box.path) as listener, Session(box.engine) as session:
        add(session)
        session.flush()
        before = woken(listener)
        session.commit()

        assert (before, woken(listener)) == (0, 1)


def test_the_message_is_visible_to_others_as_soon_as_the_wake_up_arrives(box: Outbox) -> None:
    """A real relay's thread, started before the commit, reads the moment it is woken."""
    seen: list[int] = []

    def look_when_woken(listener: WakeListener) -> None:
        listener.wait(None)
        seen.append(len(box.rows()))

    for expected in range(1, 21):
        with listen_beside(box.path, "relay-1") as listener:
            thread = threading.Thread(target=look_when_woken, args=(listener,))
            thread.start()
            box.put(f"key-{expected}")
            thread.join()

    assert seen == list(range(1, 21))


def test_a_savepoints_release_wakes_nobody(box: Outbox) -> None:
    with ear(box.path) as listener, Session(box.engine) as session:
        with session.begin_nested():
            add(session)
        at_release = woken(listener)
        session.commit()

        assert (at_release, woken(listener)) == (0, 1)


def test_many_messages_of_one_transaction_send_one_wake_up(box: Outbox) -> None:
    with ear(box.path) as listener:
        with Session(box.engine) as session, session.begin():
            for key in "abc":
                add(session, key)

        assert woken(listener) == 1


def test_each_transaction_of_a_session_that_enqueues_sends_its_own(box: Outbox) -> None:
    with ear(box.path) as listener, Session(box.engine) as session:
        add(session)
        session.commit()
        first = woken(listener)
        session.connection()
        session.commit()
        nothing_enqueued = woken(listener)
        add(session, "b")
        session.commit()

        assert (first, nothing_enqueued, woken(listener)) == (1, 0, 1)


def test_every_listener_is_woken(box: Outbox) -> None:
    with ear(box.path, "a") as one, ear(box.path, "b") as two, ear(box.path, "c") as three:
        box.put()

        assert [woken(each) for each in (one, two, three)] == [1, 1, 1]


def test_a_listener_waits_no_longer_than_until_the_wake_up(box: Outbox) -> None:
    with listen_beside(box.path, "relay-1") as one, listen_beside(box.path, "relay-2") as two:
        assert (one.problem, two.problem) == (None, None)
        box.put()

        # Without the wake-up either would wait for ever, and the test would time out.
        one.wait(None)
        two.wait(None)


def test_set_ends_the_next_wait_even_without_a_socket() -> None:
    with listen_beside(None, "relay-1") as listener:
        listener.set()

        listener.wait(None)


def test_a_wake_up_in_another_directory_than_the_databases_is_not_heard(box: Outbox, tmp_path: Path) -> None:
    with ear(box.path) as listener:
        wake(tmp_path / "other.db")

        assert woken(listener) == 0


def test_the_socket_and_its_directory_are_private(box: Outbox) -> None:
    before = os.umask(0)
    try:
        with listen_beside(box.path, "relay-1"):
            (found,) = wake_directory(box.path).iterdir()
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (found, wake_directory(box.path))]
    finally:
        os.umask(before)

    assert [oct(mode) for mode in modes] == ["0o600", "0o700"]


def test_a_closed_listener_leaves_no_socket_behind(box: Outbox) -> None:
    with listen_beside(box.path, "relay-1"):
        pass

    assert list(wake_directory(box.path).iterdir()) == []


def test_a_new_listener_removes_the_sockets_of_killed_ones_and_no_others(box: Outbox) -> None:
    with ear(box.path, "killed"):
        pass

    with ear(box.path, "alive"), listen_beside(box.path, "new"):
        names = {path.name for path in wake_directory(box.path).iterdir()}

    assert names == {"alive", "new"}


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_directory_that_others_can_use_is_refused(box: Outbox, mode: int) -> None:
    wake_directory(box.path).mkdir()
    wake_directory(box.path).chmod(mode)

    with listen_beside(box.path, "relay-1") as listener:
        assert "is not a directory that only its owner can use" in (listener.problem or "")
        assert list(wake_directory(box.path).iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_owner_is_refused(box: Outbox) -> None:
    wake_directory(box.path).mkdir(mode=0o700)
    os.chown(wake_directory(box.path), 65534, 65534)

    with listen_beside(box.path, "relay-1") as listener:
        assert "is not a directory that only its owner can use" in (listener.problem or "")


def test_a_link_to_a_directory_is_refused(box: Outbox, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    wake_directory(box.path).symlink_to(tmp_path / "elsewhere")

    with listen_beside(box.path, "relay-1") as listener:
        assert "is not a directory that only its owner can use" in (listener.problem or "")


def test_a_path_too_long_for_a_socket_is_said_and_waiting_still_ends(tmp_path: Path) -> None:
    with listen_beside(tmp_path / ("x" * 100), "relay-1") as listener:
        assert "is longer than 107 bytes" in (listener.problem or "")
        listener.set()
        listener.wait(None)


def test_a_file_where_the_directory_should_be_is_said(box: Outbox) -> None:
    wake_directory(box.path).touch()

    with listen_beside(box.path, "relay-1") as listener:
        assert "File exists" in (listener.problem or "")
