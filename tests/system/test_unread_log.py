"""Nobody reads the log, or it cannot be written: the relay and the gateway's server go on, and end when told to."""

import json
import os
import pty
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Stores, rows
from tests.postgresql.waiting import until, until_settled
from tests.relay.rig import create_many
from tests.socket import clients
from tests.system.processes import RELAY

pytestmark = pytest.mark.only("sqlite", because="what becomes of the log has nothing to do with the databases")

# Two on an idle machine; what hangs does not end at all.
ENDS_WITHIN_SECONDS = 60.0
REFUSED = "SELECT count(*) AS count FROM outbox_messages WHERE state = 'retrying'"


@contextmanager
def full_pipe() -> Iterator[int]:
    """Somebody has it open for reading, and reads nothing."""
    reader, writer = os.pipe()
    # Opened again, for a flag that the relay's descriptor must not have.
    filler = os.open(f"/proc/self/fd/{writer}", os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(filler, b"x" * 4096)
    os.close(filler)
    yield writer
    os.close(writer)
    os.close(reader)


@contextmanager
def full_socket() -> Iterator[int]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                theirs.send(b"x" * 4096)
        theirs.setblocking(True)
        yield theirs.fileno()


@contextmanager
def pipe_without_a_reader() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@contextmanager
def full_disk() -> Iterator[int]:
    full = os.open("/dev/full", os.O_WRONLY)
    yield full
    os.close(full)


@contextmanager
def stopped_terminal() -> Iterator[int]:
    """Somebody has pressed Ctrl-S there."""
    master, terminal = pty.openpty()
    termios.tcflow(terminal, termios.TCOOFF)
    yield terminal
    os.close(terminal)
    os.close(master)


@contextmanager
def closed() -> Iterator[None]:
    yield None


UNREAD: list[Callable[[], AbstractContextManager[int | None]]] = [
    full_pipe,
    full_socket,
    pipe_without_a_reader,
    full_disk,
    stopped_terminal,
    closed,
]
each_unread = pytest.mark.parametrize("unread", UNREAD, ids=lambda one: one.__name__)


@contextmanager
def started(stores: Stores, fd: int | None, *args: str) -> "Iterator[subprocess.Popen[bytes]]":
    """The command with this standard error, or none; killed at the end if it still lives."""
    command: list[str | Path] = [RELAY, *args]
    if fd is None:
        command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    urls = {"RELAY_ASSISTANT_DB": stores.source_url, "RELAY_GATEWAY": stores.mirror_url}
    env = os.environ | urls | {"RELAY_POLL_INTERVAL": "0.2", "RELAY_LOG_FORMAT": "json", "RELAY_RETRY_FIRST": "10m"}
    with subprocess.Popen(command, stderr=fd, stdout=subprocess.DEVNULL, env=env, cwd=stores.folder) as process:
        try:
            yield process
        finally:
            process.kill()


def ends_with(process: "subprocess.Popen[bytes]", code: int) -> None:
    process.send_signal(signal.SIGTERM)
    assert process.wait(ENDS_WITHIN_SECONDS) == code


@each_unread
def test_a_relay_whose_log_cannot_be_written_drains_and_ends_when_told_to(
    stores: Stores, unread: Callable[[], AbstractContextManager[int | None]]
) -> None:
    with unread() as fd, started(stores, fd, "run") as process:
        for _ in range(3):
            invite = stores.create().invite.id
            until_settled(stores, invite)
        # Each is a line of its own: more than a pipe takes.
        create_many(stores, 600, contact_id="nobody")
        until("all are refused", lambda: len(stores.messages("state = 'retrying'")) == 600)
        until_settled(stores, stores.create().invite.id)
        ends_with(process, 0)
    assert rows(stores.source, "SELECT * FROM outbox_leases") == []


@each_unread
def test_a_gateway_whose_log_cannot_be_written_answers_and_ends_when_told_to(
    stores: Stores, unread: Callable[[], AbstractContextManager[int | None]]
) -> None:
    args = ("gateway", "--listen", clients.url(stores), "--db", stores.mirror_url)
    with unread() as fd, started(stores, fd, *args) as process:
        until("it listens", clients.path(stores).exists)
        assert clients.ask(stores, clients.line()) == [{"id": "1", "result": {"id": clients.params()["id"]}}]
        ends_with(process, 0)


@each_unread
def test_a_command_that_fails_ends_with_its_code_though_nobody_can_read_why(
    stores: Stores, unread: Callable[[], AbstractContextManager[int | None]]
) -> None:
    with unread() as fd, started(stores, fd, "replay", "--since", "yesterday") as process:
        assert process.wait(30) == 2


def test_once_the_log_is_read_again_it_goes_on_line_by_line_and_says_how_many_are_missing(stores: Stores) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with started(stores, writer, "run") as process:
        os.close(writer)
        create_many(stores, 8_000, contact_id="nobody")
        until("all are refused", lambda: rows(stores.source, REFUSED)[0]["count"] == 8_000)
        with os.fdopen(reader, "rb") as log:
            lines: list[dict[str, Any]] = []
            while not any(line["event"] == "log_lines_dropped" for line in lines):
                lines.append(json.loads(log.readline()))
            process.send_signal(signal.SIGTERM)
            lines += map(json.loads, log.readlines())
        assert process.wait(30) == 0
    seqs = [line["seq"] for line in lines if line["event"] == "refused_for_now" and "seq" in line]
    missing = sum(line["count"] for line in lines if line["event"] == "log_lines_dropped")
    assert lines[0]["event"] == "started"
    assert lines[-1]["event"] == "stopped"
    assert len(seqs) + missing >= 8_000
