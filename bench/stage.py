"""Fresh stores and real processes for a benchmark."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from bench.place import Stores, place
from gateway_store import upsert_contact
from outbox import open_engine
from relay.demo import Daemon
from relay.make_stores import init_stores
from relay.settings import Settings

CONTACT = "co-bench"


@dataclass(frozen=True, slots=True)
class Stage:
    """Both stores in a folder of their own, the contact at the gateway."""

    folder: Path
    settings: Settings
    source: Engine
    mirror: Engine

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "RELAY_ASSISTANT_DB": self.settings.assistant_db,
            "RELAY_GATEWAY": self.settings.gateway,
            "RELAY_LOG_FORMAT": "json",
        }


@contextmanager
def stage(backend: str = "sqlite") -> Iterator[Stage]:
    """New stores on a server, or in files, of their own."""
    with place(backend) as where:
        stores = where.empty()
        set_up(stores)
        with opened(stores) as at:
            yield at


def set_up(stores: Stores) -> None:
    init_stores(Settings(assistant_db=stores.source, gateway=stores.mirror))
    with opened(stores) as at, Session(at.mirror) as session, session.begin():
        upsert_contact(session, id=CONTACT, display_name="Bench")


@contextmanager
def opened(stores: Stores) -> Iterator[Stage]:
    settings = Settings(assistant_db=stores.source, gateway=stores.mirror)
    source, mirror = open_engine(settings.assistant_db), open_engine(settings.gateway)
    try:
        yield Stage(stores.folder, settings, source, mirror)
    finally:
        source.dispose()
        mirror.dispose()


@contextmanager
def daemon(at: Stage) -> Iterator[Daemon]:
    """A process that creates invites through the library, warmed up."""
    command = [sys.executable, "-P", "-m", "relay.demo_daemon", at.settings.assistant_db]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        running = Daemon(process)
        running.ask(create=100, contact_id=CONTACT)
        yield running


@contextmanager
def relay(at: Stage, number: int = 0, **settings: str) -> "Iterator[subprocess.Popen[str]]":
    """`relay run` from its word that it started to its end by SIGTERM."""
    log = relay_log(at, number)
    with log.open("w") as lines:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cli", "run"], env=at.environment | settings, text=True, stderr=lines
        )
    try:
        _await_start(process, log)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def with_the_bench() -> dict[str, str]:
    """The environment of a process that runs a module of the benchmarks: they are not installed."""
    return os.environ | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109


def relay_log(at: Stage, number: int = 0) -> Path:
    return at.folder / f"relay-{number}.log"


def _await_start(process: "subprocess.Popen[str]", log: Path) -> None:
    with log.open() as lines:
        while process.poll() is None:
            line = lines.readline()
            if line.endswith("\n") and event_of(line) == "started":
                return
    raise RuntimeError(f"the relay did not start: {log.read_text()}")


def event_of(line: str) -> str:
    return str(words_of(line)["event"])


def words_of(line: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line)
    return found


def bare_commit(at: Stage) -> float:
    """Seconds of the smallest durable write to the gateway's store: what no way of mirroring can do without."""
    started = time.perf_counter()
    with at.mirror.begin() as connection:
        connection.exec_driver_sql("UPDATE contacts SET updated_at = updated_at + 1")
    return time.perf_counter() - started
