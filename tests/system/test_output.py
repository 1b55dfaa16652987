"""Results that cannot be written: the reader has gone, the disk is full, there is no output. Never a traceback."""

import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.conftest import Stores, write
from tests.postgresql.waiting import until
from tests.relay.rig import create_many
from tests.system.processes import RELAY, Ended
from tests.system.test_command_usage import PRINTING
from tests.system.test_unread_log import full_disk, pipe_without_a_reader

pytestmark = pytest.mark.only("sqlite", because="what becomes of the output has nothing to do with the databases")

WITHOUT_STORES = [("--help",), ("verify", "--help"), ("--version",), ("--json", "dead", "--help")]
# An empty list of dead letters has no lines.
TEXT = [command for command in PRINTING if command != ("dead", "list")]
EVERY = [*TEXT, ("status", "--json"), ("dead", "list", "--json"), *WITHOUT_STORES]


@contextmanager
def connection_without_a_peer() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs, _ = server.accept()
        # What it has not read makes the next write fail with a reset, not with a broken pipe.
        ours.send(b"unread")
        theirs.close()
        yield ours.fileno()


@contextmanager
def opened_for_reading() -> Iterator[int]:
    fd = os.open(os.devnull, os.O_RDONLY)
    yield fd
    os.close(fd)


Output = Callable[[], AbstractContextManager[int]]
GONE: list[Output] = [pipe_without_a_reader, connection_without_a_peer]
UNWRITABLE: list[tuple[Output, str]] = [
    (full_disk, "No space left on device"),
    (opened_for_reading, "Bad file descriptor"),
]


def start(stores: Stores, *args: str, out: int) -> "subprocess.Popen[bytes]":
    env = os.environ | {"RELAY_ASSISTANT_DB": stores.source_url, "RELAY_GATEWAY": stores.mirror_url}
    return subprocess.Popen([RELAY, *args], stdout=out, stderr=subprocess.PIPE, env=env, cwd=stores.folder)


def ended(process: "subprocess.Popen[bytes]") -> Ended:
    with process:
        try:
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return Ended(process.returncode, "", err.decode())


def many_dead(stores: Stores) -> None:
    """More lines than any buffer holds."""
    create_many(stores, 5_000)
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1, last_error = 'no'")


@pytest.mark.parametrize("gone", GONE, ids=lambda one: one.__name__)
@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_a_reader_that_has_gone_is_0_and_nothing_is_said(
    stores: Stores, command: tuple[str, ...], gone: Output
) -> None:
    with gone() as out:
        found = ended(start(stores, *command, out=out))
    assert (found.code, found.err) == (0, "")


@pytest.mark.parametrize(("unwritable", "reason"), UNWRITABLE, ids=lambda one: getattr(one, "__name__", ""))
@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_output_that_cannot_be_written_is_4_and_one_line(
    stores: Stores, command: tuple[str, ...], unwritable: Output, reason: str
) -> None:
    with unwritable() as out:
        found = ended(start(stores, *command, out=out))
    assert found.code == 4
    assert found.only_line == f"relay: standard output cannot be written: {reason}"


@pytest.mark.parametrize("command", [("dead", "list"), ("dead", "list", "--json"), ("verify",)], ids=" ".join)
def test_a_reader_that_goes_away_half_way_is_0_and_nothing_is_said(stores: Stores, command: tuple[str, ...]) -> None:
    many_dead(stores)
    reader, writer = os.pipe()
    process = start(stores, *command, out=writer)
    os.close(writer)
    began = os.read(reader, 10)
    os.close(reader)
    found = ended(process)
    assert began
    assert (found.code, found.err) == (0, "")


def test_a_disk_that_is_full_half_way_is_4_and_one_line(stores: Stores) -> None:
    many_dead(stores)
    # A limit on the size of files stands in for the disk: it, too, takes a part of the output.
    limit = ["sh", "-c", 'ulimit -f 200; exec "$@"', "sh"]
    limited: list[str | Path] = [*limit, RELAY, "--assistant-db", stores.source_url, "dead", "list"]
    path = stores.folder / "out.txt"
    with path.open("wb") as out:
        found = subprocess.run(limited, stdout=out, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert path.stat().st_size > 0
    assert found.returncode == 4
    assert found.stderr == "relay: standard output cannot be written: File too large\n"


def test_drift_that_could_not_be_written_down_is_4(stores: Stores) -> None:
    stores.create()
    with full_disk() as out:
        found = ended(start(stores, "verify", out=out))
    assert found.code == 4
    assert "standard output cannot be written" in found.only_line


def test_a_repair_of_which_nothing_can_be_said_has_been_made(stores: Stores) -> None:
    stores.create()
    with full_disk() as out:
        found = ended(start(stores, "replay", "--all", out=out))
    assert found.code == 4
    assert set(stores.states()) <= {"delivered", "superseded"}


@pytest.mark.parametrize(("command", "code"), [(("verify",), 1), (("dead", "show", "99"), 2), (("status",), 0)])
def test_without_an_output_a_command_has_its_own_code(
    stores: Stores, tmp_path: Path, command: tuple[str, ...], code: int
) -> None:
    if command == ("verify",):
        stores.create()
    write(stores.source, "DELETE FROM outbox_messages")
    closed: list[str | Path] = ["sh", "-c", 'exec "$@" >&-', "sh", RELAY, "--assistant-db", stores.source_url]
    command_line = [*closed, "--gateway", stores.mirror_url, *command]
    found = subprocess.run(command_line, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert found.returncode == code
    assert "Traceback" not in found.stderr
    assert "Exception" not in found.stderr


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_a_command_whose_reader_does_not_read_on_ends_when_told_to(stores: Stores, stop: signal.Signals) -> None:
    many_dead(stores)
    reader, writer = os.pipe()
    process = start(stores, "dead", "list", out=writer)
    until("the pipe is full", lambda: not select.select([], [writer], [], 0)[1])
    process.send_signal(stop)
    found = ended(process)
    os.close(reader)
    os.close(writer)
    assert found.code == 3
    assert found.only_line == "relay: interrupted; run it again"
