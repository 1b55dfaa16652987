"""The `relay` command in processes of its own: run to its end, or started and watched through its log."""

import importlib
import json
import multiprocessing
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests import crash
from tests.conftest import Stores

RELAY = Path(sys.executable).with_name("relay")
# What it ends does not end by itself, or takes an hour: a busy machine may take its time.
DEADLINE_SECONDS = 60.0

FORKSERVER = multiprocessing.get_context("forkserver")
FORKSERVER.set_forkserver_preload(["relay.worker", "relay.open", "assistant_store", "gateway_store", "cli"])
assert crash.MAX_STEPS, "imported first: its own list of modules must not replace the one above"


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def only_line(self) -> str:
        """The one line on standard error, which is all that a failed command may say there."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def relay(stores: Stores, *args: str, **env: str) -> Ended:
    """The command on both stores, run to its end in a new process."""
    return relay_at(stores.folder, "--assistant-db", stores.source_url, "--gateway", stores.mirror_url, *args, **env)


def relay_at(folder: Path, *args: str, **env: str) -> Ended:
    """The command with nothing but these arguments, in ``folder``; a fork of a server, which is faster to start."""
    out, err = folder / "command.out", folder / "command.err"
    process = FORKSERVER.Process(target=_main, args=(args, env, folder, out, err))
    process.start()
    process.join(DEADLINE_SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise AssertionError(f"relay {' '.join(args)} did not end: {out.read_text()} {err.read_text()}")
    return Ended(process.exitcode, out.read_text(), err.read_text())


def _main(args: tuple[str, ...], env: Mapping[str, str], folder: Path, out: Path, err: Path) -> None:
    run_here(args, env, folder, out, err, lambda: None)


def run_here(
    args: tuple[str, ...], env: Mapping[str, str], folder: Path, out: Path, err: Path, first: Callable[[], None]
) -> None:
    """The command in this process, which ends with it; ``first`` is done once its output is opened."""
    os.chdir(folder)
    os.environ.update(env)
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    first()
    sys.argv = ["relay", *args]
    importlib.import_module("cli").main(list(args), prog_name="relay")


@dataclass(slots=True)
class RelayProcess:
    """A real `relay` process whose JSON log is read as it is written. Leaving it kills it if it still lives."""

    process: "subprocess.Popen[bytes]"
    seen: list[dict[str, Any]] = field(default_factory=list)
    _lines: "queue.Queue[dict[str, Any] | None]" = field(default_factory=queue.Queue)
    _reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, event: str, **having: Any) -> dict[str, Any]:
        """The next log line of ``event``; fails at the deadline, or if the process ends without one."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {event!r} in time; seen: {self.seen}") from None
            assert line is not None, f"the relay ended without {event!r}; seen: {self.seen}"
            self.seen.append(line)
            if line.get("event") == event and all(line.get(name) == value for name, value in having.items()):
                return line

    def wait_until_delivered(self, *invites: str) -> None:
        """A large batch is logged by its count alone, so nothing else may be delivered meanwhile."""
        missing, unnamed = set(invites), 0
        while len(missing) > unnamed:
            line = self.wait_for("delivered")
            if "invites" in line:
                missing -= set(line["invites"])
            else:
                unnamed += line["count"]

    def terminate(self) -> int:
        """SIGTERM, then its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.join()

    def kill(self) -> None:
        self.process.kill()
        self.join()

    def join(self) -> int:
        code = self.process.wait(DEADLINE_SECONDS)
        if self._reader is not None:
            self._reader.join(DEADLINE_SECONDS)
        while not self._lines.empty():
            line = self._lines.get()
            if line is not None:
                self.seen.append(line)
        return code

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.seen if line.get("event") == name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.join()
        if self.process.stderr is not None:
            self.process.stderr.close()

    def read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self._lines.put(json.loads(line))
            except ValueError:
                self._lines.put({"event": "not json", "text": line.decode()})
        self._lines.put(None)


def start_relay(stores: Stores, *args: str, **env: str) -> RelayProcess:
    """`relay run`, or another command, started on both stores."""
    urls = {"RELAY_ASSISTANT_DB": stores.source_url, "RELAY_GATEWAY": stores.mirror_url}
    process = subprocess.Popen(
        [RELAY, *(args or ("run",))],
        env=os.environ | urls | {"RELAY_LOG_FORMAT": "json"} | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=stores.folder,
    )
    started = RelayProcess(process)
    started._reader = threading.Thread(target=started.read_log, daemon=True)
    started._reader.start()
    return started


@contextmanager
def running_relay(stores: Stores, *args: str, **env: str) -> Iterator[RelayProcess]:
    """`start_relay`, seen to have started."""
    with start_relay(stores, *args, **env) as started:
        started.wait_for("started")
        yield started
