"""Where results and bars go when standard output, standard error, or both are a terminal."""

import os
import pty
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Stores, write
from tests.relay.rig import create_many
from tests.system.processes import RELAY

pytestmark = pytest.mark.only("sqlite", because="what becomes of the output has nothing to do with the databases")

# More than one page of rows.
MANY = 2_500
BAR = "compared"
_STEERING = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Screen:
    """What was written to a terminal, as lines without what steers it."""

    def __init__(self, master: int) -> None:
        self._master = master
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def lines(self) -> list[str]:
        """All of them, once nobody has the terminal open any more."""
        self._reader.join(30)
        return re.split(r"[\r\n]+", _STEERING.sub(b"", bytes(self._seen)).decode())

    def _read(self) -> None:
        try:
            while data := os.read(self._master, 65536):
                self._seen += data
        except OSError:
            # Linux says so where the last process has closed the terminal.
            return


@contextmanager
def terminal() -> Iterator[tuple[int, Screen]]:
    master, slave = pty.openpty()
    try:
        yield slave, Screen(master)
    finally:
        os.close(master)


def drifted(stores: Stores) -> set[str]:
    """The lines that `relay verify` prints."""
    ids = create_many(stores, MANY)
    write(stores.source, "DELETE FROM outbox_messages")
    return {f"missing          {id_}" for id_ in ids}


def verify(stores: Stores, out: int, err: int) -> int:
    env = os.environ | {"TERM": "xterm", "COLUMNS": "200", "LINES": "50"}
    command: list[str | Path] = [RELAY, "--assistant-db", stores.source_url, "--gateway", stores.mirror_url, "verify"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env, check=False, timeout=100)
    for fd in {out, err}:
        os.close(fd)
    return done.returncode


def opened(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def test_differences_go_to_the_file_though_errors_go_to_a_terminal(stores: Stores, tmp_path: Path) -> None:
    expected = drifted(stores)
    with terminal() as (slave, screen):
        code = verify(stores, opened(tmp_path / "out.txt"), slave)
        shown = screen.lines()
    assert code == 1
    assert expected <= set((tmp_path / "out.txt").read_text().splitlines())
    assert BAR not in (tmp_path / "out.txt").read_text()
    assert not any(line.startswith("missing") for line in shown)
    assert any(BAR in line for line in shown)


def test_differences_go_to_the_terminal_though_errors_go_to_a_file(stores: Stores, tmp_path: Path) -> None:
    expected = drifted(stores)
    with terminal() as (slave, screen):
        code = verify(stores, slave, opened(tmp_path / "err.txt"))
        shown = screen.lines()
    assert code == 1
    assert expected <= set(shown)
    assert not any(BAR in line for line in shown)
    (only_line,) = (tmp_path / "err.txt").read_text().splitlines()
    assert only_line.startswith(f"relay: {MANY} rows differ")


def test_on_one_terminal_for_both_no_bar_runs_into_a_difference(stores: Stores) -> None:
    expected = drifted(stores)
    with terminal() as (slave, screen):
        code = verify(stores, slave, slave)
        shown = screen.lines()
    assert code == 1
    assert expected <= set(shown)
    assert any(BAR in line for line in shown)
    assert any(line.startswith(f"relay: {MANY} rows differ") for line in shown)


def test_on_two_files_there_are_the_same_lines_and_no_bar(stores: Stores, tmp_path: Path) -> None:
    expected = drifted(stores)
    code = verify(stores, opened(tmp_path / "out.txt"), opened(tmp_path / "err.txt"))
    assert code == 1
    assert expected <= set((tmp_path / "out.txt").read_text().splitlines())
    assert BAR not in (tmp_path / "err.txt").read_text()
