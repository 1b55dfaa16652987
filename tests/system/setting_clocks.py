"""A wall clock that a test can set under a running relay, which has no other than that one."""

import mmap
import struct
from pathlib import Path

# Imported by Python at its start, because it lies in PYTHONPATH: the relay itself stays as it is.
SITE = """
import datetime, mmap, os, struct, time
import apscheduler.schedulers.base as scheduling

real = time.time_ns
with open(os.environ["CLOCK"], "rb") as file:
    ahead = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)

def seconds_ahead():
    return struct.unpack("q", ahead[:8])[0]

class Datetime(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime.now(tz) + datetime.timedelta(seconds=seconds_ahead())

time.time_ns = lambda: real() + seconds_ahead() * 1_000_000_000
scheduling.datetime = Datetime
"""


class Clock:
    """The wall clock of every process started with its `env`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SITE)
        at = folder / "clock"
        at.write_bytes(struct.pack("q", 0))
        with at.open("r+b") as file:
            self._ahead = mmap.mmap(file.fileno(), 8)
        self.env = {"PYTHONPATH": str(folder), "CLOCK": str(at)}

    def set_ahead(self, seconds: int) -> None:
        """Of the true time; negative for behind."""
        self._ahead[:] = struct.pack("q", seconds)
