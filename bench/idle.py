"""What a relay costs that has nothing to do, in an hour."""

import os
import threading
import time
from pathlib import Path

from bench.figure import Figure, Findings, told
from bench.stage import relay, stage

# What it reads and makes once is made by then.
SECONDS_TO_SETTLE = 300.0
SECONDS = 3600.0


def measure(seconds: float = SECONDS, to_settle: float = SECONDS_TO_SETTLE) -> Findings:
    """CPU time of the relay's process, and by how much its memory grew."""
    with stage() as at, relay(at) as process:
        threading.Event().wait(to_settle)
        cpu, memory, started = _cpu_seconds(process.pid), _resident_mib(process.pid), time.perf_counter()
        threading.Event().wait(seconds)
        took = time.perf_counter() - started
        share = (_cpu_seconds(process.pid) - cpu) / took
        grown = _resident_mib(process.pid)
    return Findings(
        [
            Figure("idle relay", share * 100, "% of a core", at_most=0.2, beside=f"over {took / 60:.0f} minutes"),
            Figure(
                "idle relay, memory at the end / at the start of them",
                grown / memory,
                at_most=1.01,
                beside=f"{told(grown)} to {told(memory)} MiB resident",
            ),
        ]
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
