"""A relay counts as killed only if its process ran here and is certainly gone."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outbox import processes
from outbox.processes import host, host_name, may_live, started_ticks

pytestmark = pytest.mark.skipif(host() is None, reason="only Linux tells processes apart")


@contextmanager
def another() -> Iterator[int]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process.pid
        finally:
            process.kill()


def test_a_host_is_the_running_kernel_and_its_namespaces_and_no_name() -> None:
    found = host()

    assert found is not None
    assert Path("/proc/sys/kernel/random/boot_id").read_text().strip() in found
    assert str(Path("/proc/self/ns/pid").readlink()) in found
    assert host_name() not in found.split()


def test_a_process_that_runs_may_live_and_one_that_ended_does_not() -> None:
    with another() as pid:
        started = started_ticks(pid)
        alive = may_live(host(), pid, started)

    assert started is not None
    assert alive
    assert not may_live(host(), pid, started)


def test_a_pid_that_was_given_to_another_process_is_no_sign_of_life() -> None:
    mine = started_ticks(os.getpid())
    assert mine is not None

    assert may_live(host(), os.getpid(), mine)
    assert may_live(host(), os.getpid(), None)
    assert not may_live(host(), os.getpid(), mine - 1)


def test_a_process_that_was_stopped_lives() -> None:
    with another() as pid:
        os.kill(pid, signal.SIGSTOP)

        assert may_live(host(), pid, started_ticks(pid))


@pytest.mark.parametrize("elsewhere", [f"{host_name()} pid:[4026531836]", "another boot pid:[4026531836]", "", None])
def test_a_pid_of_another_host_says_nothing(elsewhere: str | None) -> None:
    assert may_live(elsewhere, 2**22 + 1, 1)


@pytest.mark.parametrize("pid", [-(2**63), -(2**31), -1, 0, 2**22 + 1, 2**31 - 1, 2**31, 2**40, 2**63 - 1])
def test_a_number_that_names_no_process_is_borne_and_no_sign_of_life(pid: int) -> None:
    assert not may_live(host(), pid, None)


def test_where_the_system_tells_no_boot_no_pid_is_believed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for unreadable in (tmp_path / "missing", tmp_path / "empty"):
        (tmp_path / "empty").write_text("\n")
        monkeypatch.setattr(processes, "_BOOT_ID", unreadable)

        assert host() is None
        assert may_live(host(), 2**22 + 1, 1)
        assert may_live("", 2**22 + 1, 1)


def test_the_start_of_a_process_is_read_past_a_name_with_spaces_and_parentheses(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"]) as process:
        with another() as pid:
            found, near = started_ticks(process.pid), started_ticks(pid)
        process.kill()

    assert found is not None
    assert near is not None
    assert 0 <= near - found < 1_000
