"""The socket's file: made for its owner alone, never taken from a live server, never left to somebody else."""

import os
import signal
import socket
import stat
from pathlib import Path

import pytest

from relay.serve.listening import MAX_PATH_BYTES, ListenError, SocketFile
from tests.conftest import Stores, rows
from tests.socket.clients import (
    NOBODY,
    answers,
    ask,
    connect,
    gateway,
    left_by_a_crash,
    line,
    lock_file,
    path,
    start_refused,
)
from tests.socket.waiting import DEADLINE_SECONDS, until_logged

pytestmark = pytest.mark.only("sqlite", because="it is about the socket's file, in front of whatever store")

ANSWER = [{"id": "1", "result": {"id": "inv-1"}}]


def identity(at: Path) -> tuple[int, int]:
    found = at.lstat()
    return found.st_ino, stat.S_IFMT(found.st_mode)


def test_the_folder_the_socket_and_its_lock_file_are_made_for_their_owner_alone(stores: Stores) -> None:
    before = os.umask(0)
    try:
        with gateway(stores) as process:
            made = (path(stores).parent, path(stores), lock_file(stores))
            modes = [stat.S_IMODE(one.stat().st_mode) for one in made]
    finally:
        os.umask(before)
    assert modes == [0o700, 0o600, 0o600]
    assert process.returncode == 0


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720, 0o702], ids=oct)
def test_a_folder_that_others_can_write_to_is_refused(stores: Stores, mode: int) -> None:
    path(stores).parent.mkdir()
    path(stores).parent.chmod(mode)
    ended = start_refused(stores)
    assert (ended.code, "can be written to by others" in ended.only_line) == (4, True)
    assert list(path(stores).parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(stores: Stores) -> None:
    path(stores).parent.mkdir(mode=0o700)
    os.chown(path(stores).parent, NOBODY, NOBODY)
    ended = start_refused(stores)
    assert (ended.code, "belongs to another user" in ended.only_line) == (4, True)
    assert list(path(stores).parent.iterdir()) == []


@pytest.mark.parametrize("rights", [0o777, 0o770, 0o702], ids=oct)
def test_a_folder_further_up_that_others_can_write_to_is_refused(stores: Stores, rights: int) -> None:
    up = stores.folder / "up"
    up.mkdir()
    up.chmod(rights)
    ended = start_refused(stores, f"unix://{up}/own/g.sock")
    assert (ended.code, f"{up} can be written to by others" in ended.only_line) == (4, True)
    assert list(up.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link away")
def test_a_link_of_another_user_is_not_followed_to_a_folder(stores: Stores) -> None:
    (stores.folder / "elsewhere").mkdir(mode=0o700)
    path(stores).parent.symlink_to(stores.folder / "elsewhere")
    os.chown(path(stores).parent, NOBODY, NOBODY, follow_symlinks=False)
    ended = start_refused(stores)
    assert (ended.code, "the link" in ended.only_line) == (4, True)
    assert list((stores.folder / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["file", "folder", "pipe", "link to nothing", "link to a file", "link to a dead socket"]
)
def test_what_is_no_socket_is_refused_and_left_untouched(stores: Stores, kind: str) -> None:
    at, target = path(stores), path(stores).with_name("target")
    at.parent.mkdir(mode=0o700)
    match kind:
        case "file":
            at.write_text("mine")
        case "folder":
            at.mkdir()
        case "pipe":
            os.mkfifo(at)
        case "link to a dead socket":
            left_by_a_crash(target)
            at.symlink_to(target)
        case "link to a file":
            target.write_text("mine")
            at.symlink_to(target)
        case _:
            at.symlink_to(target)
    before = sorted((one.name, *identity(one)) for one in at.parent.iterdir())
    ended = start_refused(stores)
    assert (ended.code, "is no socket" in ended.only_line) == (4, True)
    lock_file(stores).unlink()
    assert sorted((one.name, *identity(one)) for one in at.parent.iterdir()) == before
    assert kind != "file" or at.read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_refused_in_one_line(stores: Stores) -> None:
    (stores.folder / "s").write_text("a file where the folder should be")
    ended = start_refused(stores)
    assert (ended.code, str(stores.folder / "s") in ended.only_line) == (4, True)


def test_a_path_longer_than_a_socket_may_have_is_a_usage_error(stores: Stores) -> None:
    room = MAX_PATH_BYTES - len(os.fsencode(stores.folder)) - 1
    # An umlaut is one character and two bytes.
    fits, too_long = "s" * (room - 2) + "ü", "s" * (room - 1) + "ü"
    SocketFile(stores.folder / fits).close()
    with pytest.raises(ListenError, match="107 bytes"):
        SocketFile(stores.folder / too_long)
    ended = start_refused(stores, f"unix://{stores.folder / too_long}")
    assert (ended.code, "107 bytes" in ended.only_line) == (2, True)


def test_a_second_server_is_refused_and_the_first_keeps_serving(stores: Stores) -> None:
    with gateway(stores), connect(stores) as client:
        ended = start_refused(stores)
        assert (ended.code, "listening on" in ended.only_line) == (4, True)
        client.sendall(line())
        assert answers(client, 1) == ANSWER
        assert ask(stores, line()) == ANSWER


def test_a_file_that_a_killed_server_left_is_taken_over(stores: Stores) -> None:
    with gateway(stores) as process:
        process.kill()
        process.wait(60)
        assert path(stores).is_socket()
    with gateway(stores):
        assert ask(stores, line()) == ANSWER


def test_a_socket_whose_file_vanished_is_bound_again_and_old_connections_live_on(stores: Stores) -> None:
    with gateway(stores) as process, connect(stores) as old:
        path(stores).unlink()
        until_logged(process, "rebound")
        assert stat.S_IMODE(path(stores).stat().st_mode) == 0o600
        old.sendall(line())
        assert answers(old, 1) == ANSWER
        assert ask(stores, line()) == ANSWER
    assert not path(stores).exists()


def test_a_server_that_may_not_bind_again_serves_who_is_connected_and_tries_on(stores: Stores) -> None:
    folder = path(stores).parent
    with gateway(stores) as process, connect(stores) as old:
        folder.chmod(0o777)
        path(stores).unlink()
        assert "chmod 700" in until_logged(process, "not_rebound")["reason"]
        old.sendall(line())
        assert answers(old, 1) == ANSWER
        assert not path(stores).exists()
        folder.chmod(0o700)
        until_logged(process, "rebound")
        assert ask(stores, line()) == ANSWER


def test_another_servers_socket_in_its_place_is_neither_stolen_nor_removed(stores: Stores) -> None:
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with gateway(stores) as process, connect(stores) as old, other:
        other.settimeout(DEADLINE_SECONDS)
        other.bind(str(path(stores).with_name("other")))
        other.listen()
        # In one step, so that there is never no file.
        path(stores).with_name("other").rename(path(stores))
        theirs = identity(path(stores))
        old.sendall(line())
        assert answers(old, 1) == ANSWER
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert identity(path(stores)) == theirs
        with connect(stores):
            other.accept()[0].close()
    assert len(rows(stores.mirror, "SELECT id FROM ingress_invites")) == 1
