"""Servers that start at once: one wins, and no other user can keep all of them from starting."""

import fcntl
import os
import select
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from relay.serve.listening import ListenError, SocketFile
from tests.conftest import Stores
from tests.socket.clients import (
    NOBODY,
    ask,
    become,
    connect,
    gateway,
    left_by_a_crash,
    line,
    lock_file,
    path,
    start_refused,
    url,
)
from tests.socket.waiting import DEADLINE_SECONDS, until_logged
from tests.system.processes import FORKSERVER

pytestmark = pytest.mark.only("sqlite", because="it is about the socket's file, in front of whatever store")

RACERS = 3
ROUNDS = 500
ANSWER = [{"id": "1", "result": {"id": "inv-1"}}]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, or give a file away")


def _race(at: Path, barrier: Barrier, wins: "Any") -> None:
    """Each round: all bind at once; the winner stops listening without removing its file, as if it crashed."""
    for number in range(ROUNDS):
        barrier.wait(DEADLINE_SECONDS)
        try:
            mine: SocketFile | None = SocketFile(at)
            wins.put(number)
        except ListenError:
            mine = None
        barrier.wait(DEADLINE_SECONDS)
        if mine is not None:
            mine.socket.close()


def test_of_servers_that_take_over_a_dead_one_at_once_exactly_one_wins(tmp_path: Path) -> None:
    at = tmp_path / "g.sock"
    left_by_a_crash(at)
    barrier, wins = FORKSERVER.Barrier(RACERS), FORKSERVER.Queue()
    racers = [FORKSERVER.Process(target=_race, args=(at, barrier, wins)) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    won = [wins.get(timeout=DEADLINE_SECONDS) for _ in range(ROUNDS)]
    for racer in racers:
        racer.join(DEADLINE_SECONDS)
    assert [racer.exitcode for racer in racers] == [0] * RACERS
    assert sorted(won) == list(range(ROUNDS))
    assert wins.empty()


def test_of_two_commands_started_at_once_on_a_dead_socket_one_serves_and_one_is_refused(stores: Stores) -> None:
    left_by_a_crash(path(stores))
    command = [sys.executable, "-m", "cli", "gateway", "--listen", url(stores), "--db", stores.mirror_url]
    env = os.environ | {"RELAY_LOG_FORMAT": "json"}
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, env=env) for _ in range(2)]
    with started[0], started[1]:
        # Only the loser ends by itself.
        descriptors = [os.pidfd_open(one.pid) for one in started]
        ended, _, _ = select.select(descriptors, [], [], DEADLINE_SECONDS)
        loser = descriptors.index(ended[0])
        for descriptor in descriptors:
            os.close(descriptor)
        winner = started[1 - loser]
        until_logged(winner, "listening")
        answer = ask(stores, line())
        winner.terminate()
        winner.communicate(timeout=60)
    assert answer == ANSWER
    assert (started[loser].returncode, winner.returncode) == (4, 0)


@contextmanager
def another_user_locks_all_it_can(folder: Path) -> Iterator[list[str]]:
    """The names in ``folder`` that it could lock; it lets go at the end."""
    ours, theirs = FORKSERVER.Pipe()
    process = FORKSERVER.Process(target=_lock_all_that_opens, args=(folder, theirs))
    process.start()
    theirs.close()
    try:
        assert ours.poll(DEADLINE_SECONDS)
        yield ours.recv()
    finally:
        ours.close()
        process.join(DEADLINE_SECONDS)


def _lock_all_that_opens(folder: Path, pipe: "Connection[Any, Any]") -> None:
    become(NOBODY, folder)
    locked = []
    for name in [".", *os.listdir()]:  # noqa: PTH208 - relative to the folder that it is in
        with suppress(OSError):
            fcntl.flock(os.open(name, os.O_RDONLY | os.O_NONBLOCK), fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked.append(name)
    pipe.send(locked)
    with suppress(EOFError):
        pipe.recv()


@as_root
def test_another_user_who_locks_all_it_can_open_stops_no_start_and_no_binding_again(stores: Stores) -> None:
    folder = path(stores).parent
    folder.mkdir(mode=0o755)
    with another_user_locks_all_it_can(folder) as before, gateway(stores) as process, connect(stores):
        assert ask(stores, line()) == ANSWER
        with another_user_locks_all_it_can(folder) as after:
            path(stores).unlink()
            until_logged(process, "rebound")
            assert ask(stores, line()) == ANSWER
    # The folder was locked all the time: the first of them held it.
    assert (before, after) == (["."], [])


def test_a_start_does_not_wait_for_another_one_that_stands_still(stores: Stores) -> None:
    with gateway(stores):
        pass
    with lock_file(stores).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ended = start_refused(stores)
    assert (ended.code, "another server is about to listen" in ended.only_line) == (4, True)
    with gateway(stores):
        assert ask(stores, line()) == ANSWER


@pytest.mark.parametrize(
    "kind",
    ["link to nothing", "link to a file", "pipe", "folder", "open to others", pytest.param("another's", marks=as_root)],
)
def test_a_lock_file_that_others_may_hold_is_refused_and_left_untouched(stores: Stores, kind: str) -> None:
    lock, target = lock_file(stores), path(stores).with_name("target")
    lock.parent.mkdir(mode=0o700)
    match kind:
        case "link to nothing":
            lock.symlink_to(target)
        case "link to a file":
            target.touch(mode=0o600)
            lock.symlink_to(target)
        case "pipe":
            os.mkfifo(lock, 0o600)
        case "folder":
            lock.mkdir()
        case "open to others":
            lock.touch()
            lock.chmod(0o604)
        case _:
            lock.touch(mode=0o600)
            os.chown(lock, NOBODY, NOBODY)
    before = sorted((one.name, one.lstat().st_ino, stat.filemode(one.lstat().st_mode)) for one in lock.parent.iterdir())
    ended = start_refused(stores)
    assert (ended.code, str(lock) in ended.only_line) == (4, True)
    after = sorted((one.name, one.lstat().st_ino, stat.filemode(one.lstat().st_mode)) for one in lock.parent.iterdir())
    assert after == before
