"""The wake-up's sockets on SQLite: private, cleaned up, and never in a place that others can use."""

import os
import stat
from pathlib import Path

import pytest

from outbox.wakeups.datagram import wake_directory
from outbox.wakeups.wake import listen_beside
from tests.outbox.conftest import Outbox
from tests.outbox.listening import ear

pytestmark = pytest.mark.only("sqlite", because="PostgreSQL carries the wake-up itself: nothing lies in a directory")


def test_set_ends_the_next_wait_even_without_a_socket() -> None:
    with listen_beside(None, "relay-1") as listener:
        assert listener.problem == "the database is in memory"
        listener.set()

        listener.wait(None)


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
