"""P2: whatever lies in the wake directory, enqueueing neither blocks nor fails, and the message is there."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from outbox.wakeups.datagram import MAX_LISTENERS, wake, wake_directory
from tests.outbox.conftest import Outbox
from tests.outbox.listening import bound, ear, woken

pytestmark = pytest.mark.only("sqlite", because="PostgreSQL has no wake directory")


@contextmanager
def nobody(directory: Path) -> Iterator[None]:
    directory.mkdir()
    yield


@contextmanager
def no_directory(directory: Path) -> Iterator[None]:
    yield


@contextmanager
def a_file_for_a_directory(directory: Path) -> Iterator[None]:
    directory.write_text("no directory")
    yield


@contextmanager
def a_directory_that_no_one_may_read(directory: Path) -> Iterator[None]:
    directory.mkdir(mode=0)
    yield


@contextmanager
def a_loop_of_links(directory: Path) -> Iterator[None]:
    directory.symlink_to(directory)
    yield


@contextmanager
def a_stale_socket(directory: Path) -> Iterator[None]:
    directory.mkdir()
    with bound(directory / "stale"):
        pass
    yield


@contextmanager
def a_regular_file(directory: Path) -> Iterator[None]:
    directory.mkdir()
    (directory / "file").write_text("no socket")
    yield


@contextmanager
def a_fifo_that_no_one_reads(directory: Path) -> Iterator[None]:
    directory.mkdir()
    os.mkfifo(directory / "fifo")
    yield


@contextmanager
def a_stream_socket(directory: Path) -> Iterator[None]:
    directory.mkdir()
    with bound(directory / "stream", socket.SOCK_STREAM) as found:
        found.listen()
        yield


@contextmanager
def a_full_queue(directory: Path) -> Iterator[None]:
    directory.mkdir()
    with bound(directory / "full") as found:
        fill(directory / "full")
        yield
        assert woken(found) > 0


@contextmanager
def a_name_too_long_for_a_socket(directory: Path) -> Iterator[None]:
    directory.mkdir()
    (directory / ("x" * 200)).touch()
    yield


def fill(path: Path) -> None:
    """Sends until the listener's queue takes no more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        try:
            while True:
                sender.sendto(b"", str(path))
        except BlockingIOError:
            return


TROUBLES = [
    nobody,
    no_directory,
    a_file_for_a_directory,
    a_directory_that_no_one_may_read,
    a_loop_of_links,
    a_stale_socket,
    a_regular_file,
    a_fifo_that_no_one_reads,
    a_stream_socket,
    a_full_queue,
    a_name_too_long_for_a_socket,
]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_enqueueing_neither_blocks_nor_fails_with(
    box: Outbox, trouble: Callable[[Path], AbstractContextManager[None]]
) -> None:
    with trouble(wake_directory(box.path)):
        seq = box.put()

    assert box.state(seq) == "pending"


def test_listeners_behind_dead_and_full_ones_are_woken(box: Outbox) -> None:
    directory = wake_directory(box.path)
    with a_full_queue(directory), ear(box.path, "alive") as alive, bound(directory / "also-alive") as also_alive:
        with bound(directory / "dead"):
            pass
        (directory / "file").touch()

        box.put()

        assert (woken(alive), woken(also_alive)) == (1, 1)


def test_no_more_than_a_fixed_number_of_listeners_is_woken(box: Outbox) -> None:
    with ExitStack() as stack:
        ears = [stack.enter_context(ear(box.path, f"ear-{n}")) for n in range(MAX_LISTENERS + 3)]

        wake(box.path)

        assert sum(woken(each) for each in ears) == MAX_LISTENERS
