"""What a relay costs that has nothing to do."""

import os
import threading
import time
from pathlib import Path

from bench.stage import relay, stage

SECONDS = 30.0


def measure() -> dict[str, str]:
    """CPU time of the relay's process over half a minute of idling, and its memory."""
    with stage() as at, relay(at) as process:
        threading.Event().wait(2.0)
        before, started = _cpu_seconds(process.pid), time.perf_counter()
        threading.Event().wait(SECONDS)
        share = (_cpu_seconds(process.pid) - before) / (time.perf_counter() - started)
        memory = _resident_mib(process.pid)
    return {"idle relay": f"{share * 100:.2f} % of one core, {memory:.0f} MiB resident"}


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
