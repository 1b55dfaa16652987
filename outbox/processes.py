"""Telling one process from another: a host name and a pid name none, for two machines can have both in common."""

import os
import socket
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PIDS, _TIMES = Path("/proc/self/ns/pid"), Path("/proc/self/ns/time")
_LARGEST_PID = 2**31 - 1
_STARTED = 22
"""The field of ``/proc/PID/stat``, counted from 1."""


def host() -> str | None:
    """The running kernel, and within it the namespaces in which a pid and its start mean something.

    None where the system does not tell: then no pid says anything about another process.
    """
    try:
        boot, pids = _BOOT_ID.read_text().strip(), _PIDS.readlink()
        # Kernels before 5.6 know none, and all processes count their start alike.
        times = f" {_TIMES.readlink()}" if _TIMES.is_symlink() else ""
    except (OSError, ValueError):
        return None
    return f"{boot} {pids}{times}" if boot else None


def host_name() -> str:
    """For showing only."""
    return socket.gethostname()[:255]


def started_ticks(pid: int) -> int | None:
    """When a process started, in ticks since the kernel did; None where that cannot be read."""
    try:
        return int(_stat_behind_name(pid)[_STARTED - 3])
    except (OSError, ValueError, IndexError):
        return None


def may_live(at_host: str | None, pid: int, pid_started: int | None) -> bool:
    """False only if that process ran here and is certainly gone, also where its pid was given to another."""
    if not is_here(at_host):
        return True
    # Others mean a group of processes, or every process, or no number of a process at all.
    if not 1 <= pid <= _LARGEST_PID:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    now_there = started_ticks(pid)
    return pid_started is None or now_there is None or now_there == pid_started


def is_stopped(at_host: str | None, pid: int, pid_started: int | None) -> bool:
    """Whether that process runs here and a signal, or a debugger, has stopped it: it does nothing until it goes on."""
    if not is_here(at_host) or not may_live(at_host, pid, pid_started):
        return False
    try:
        return _stat_behind_name(pid)[0] in ("T", "t")
    except (OSError, IndexError):
        return False


def is_here(at_host: str | None) -> bool:
    """Whether ``at_host``, as `host` said it elsewhere, is where this process runs; False where nothing tells."""
    here = host()
    return here is not None and at_host == here


def _stat_behind_name(pid: int) -> list[str]:
    """The fields that the kernel tells of a process, from the third on: its state."""
    # The name in parentheses may hold spaces and parentheses itself.
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
