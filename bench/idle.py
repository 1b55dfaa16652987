"""What a relay costs that has nothing to do."""

import os
import threading
import time
from pathlib import Path

from bench.figure import Figure, Findings
from bench.stage import relay, stage

# The kernel counts in hundredths of a second, so one of them is 0.017 %.
SECONDS = 60.0


def measure(seconds: float = SECONDS) -> Findings:
    """CPU time of the relay's process over a minute of idling, and its memory."""
    with stage() as at, relay(at) as process:
        threading.Event().wait(2.0)
        before, started = _cpu_seconds(process.pid), time.perf_counter()
        threading.Event().wait(seconds)
        share = (_cpu_seconds(process.pid) - before) / (time.perf_counter() - started)
        memory = _resident_mib(process.pid)
    return Findings(
        [Figure("idle relay", share * 100, "% of a core", at_most=0.2, beside=f"{memory:.0f} MiB resident")]
    )


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
