"""`relay verify` of two SQLite stores that agree: how long it takes, and its memory."""

import statistics
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from assistant_store.invites.invite import COLUMNS, TABLE
from bench.bound import raw_sqlite
from bench.contest import ROUNDS
from bench.draining import megabytes
from bench.figure import Figure, Findings
from bench.heap import fill, must_be_drained
from bench.stage import Stage, stage

ROWS = 1_000_000
LOOK_EVERY_SECONDS = 0.01


def measure(rows: int = ROWS, rounds: int = ROUNDS) -> Findings:
    """The median of the times, and the largest peak."""
    with stage() as at:
        fill(at, rows, enqueued=False)
        _copy_to_the_gateway(at)
        must_be_drained(at, rows)
        runs = [_verified(at) for _ in range(rounds)]
    seconds, peaks = zip(*runs, strict=True)
    return Findings(
        [
            Figure(f"verify of {rows:,} rows", statistics.median(seconds), "s", at_most=12),
            Figure(f"peak memory of verify of {rows:,} rows", megabytes(max(peaks)), "MB", at_most=100),
        ]
    )


def _copy_to_the_gateway(at: Stage) -> None:
    columns = ", ".join(COLUMNS)
    with closing(raw_sqlite(at.settings.gateway)) as mirror:
        mirror.execute("ATTACH ? AS assistant", (make_url(at.settings.assistant_db).database,))
        mirror.execute(f"INSERT INTO ingress_invites ({columns}) SELECT {columns} FROM assistant.{TABLE} ORDER BY id")


def _verified(at: Stage) -> tuple[float, float]:
    """Seconds and peak MiB of one run, which must find the stores to agree."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cli", "verify"], env=at.environment, stdout=subprocess.DEVNULL
    )
    peak = 0.0
    # Looked at while it runs: what the kernel keeps of an ended child counts its parent's memory too.
    while process.poll() is None:
        peak = _peak_mib(process.pid) or peak
        threading.Event().wait(LOOK_EVERY_SECONDS)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"verify ended with {process.returncode}")
    return seconds, peak


def _peak_mib(pid: int) -> float | None:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), None)
