"""Other libraries at the same work: installed from the registry into a venv of their own, each run by itself."""

import json
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from bench.bound import BATCH
from bench.contest import DidNotFinishError, Run
from bench.heap import arrived, as_the_pull_request_had_it
from bench.place import Place
from bench.stage import opened, set_up
from outbox import writing

SCRIPTS = Path(__file__).parent / "peers"
VENV = Path(".venv-peers")
PYTHON = VENV / "bin" / "python"
LIMIT_SECONDS = 10.0
# Filling its queue, one by one where it has no other way, included.
HUNG_AFTER_SECONDS = 300
DRIVERS = ("psycopg[binary]", "asyncpg", "uvloop", "pysqlite3")


@dataclass(frozen=True, slots=True)
class Peer:
    """One way of using one library; the script drains with it and prints what came of it."""

    package: str
    script: str
    backend: str
    how: str
    """What its figure must be read with."""
    variant: str = "documented"

    @property
    def name(self) -> str:
        return self.package if self.variant == "documented" else f"{self.package}, {self.variant}"


_ONE_BY_ONE = "as documented it publishes one message at a time"
_ONE_WRITE = "with glue of ours that turns one round into one write"
_HONKER = (
    "a batch claimed and acknowledged through its loadable SQL extension (its Python package needs a newer libc), "
    "at `synchronous=FULL` where its own `open()` has NORMAL"
)
_FOR_TESTS = "its SQLite adapter is documented for tests and single processes"
_PGQUEUER = "writes a log row for every change of a job's status"

PEERS = (
    Peer("honker", "drain_honker.py", "sqlite", _HONKER),
    Peer("txoutbox", "drain_txoutbox.py", "sqlite", f"{_ONE_BY_ONE}; {_FOR_TESTS}"),
    Peer("txoutbox", "drain_txoutbox.py", "sqlite", f"{_ONE_WRITE}; {_FOR_TESTS}", "batched"),
    Peer("huey", "drain_huey.py", "sqlite", "at most once: deletes the task before it runs"),
    Peer("txoutbox", "drain_txoutbox.py", "postgresql", f"{_ONE_BY_ONE}, here 20 of them at once"),
    Peer("txoutbox", "drain_txoutbox.py", "postgresql", _ONE_WRITE, "batched"),
    Peer("pgqueuer", "drain_pgqueuer.py", "postgresql", _PGQUEUER),
    Peer("pgqueuer", "drain_pgqueuer.py", "postgresql", f"{_PGQUEUER}; {_ONE_WRITE}", "batched"),
    Peer("faststream-outbox", "drain_faststream.py", "postgresql", "claims 500, hands over one at a time, 10 workers"),
    Peer(
        "procrastinate",
        "drain_procrastinate.py",
        "postgresql",
        "one statement to fetch and one to finish each job, 10 workers of 2 jobs at once",
    ),
)


def install() -> dict[str, str]:
    """Makes the venv where there is none; the packages that cannot be installed, and why."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    problem = _pip("install", *DRIVERS)
    if problem:
        return dict.fromkeys((peer.package for peer in PEERS), f"its drivers cannot be installed: {problem}")
    missing = {}
    for package in dict.fromkeys(peer.package for peer in PEERS):
        problem = _pip("install", package)
        if problem and package == "honker":
            problem = _install_honker_alone()
        if problem:
            missing[package] = problem
    return missing


def version_of(peer: Peer) -> str:
    asked = f"from importlib.metadata import version; print(version({peer.package!r}))"
    return subprocess.run([PYTHON, "-c", asked], text=True, capture_output=True, check=True).stdout.strip()


def drained_by(peer: Peer, where: Place, payloads: Path, count: int) -> Run:
    """Its queue is in the assistant's database, empty but for it; the gateway's table is as the bound's."""
    stores = where.empty()
    try:
        set_up(stores)
        with opened(stores) as at:
            with writing(at.mirror) as connection:
                as_the_pull_request_had_it(connection)
            job = {
                "payloads": str(payloads),
                "source": stores.source.replace("+psycopg", ""),
                "mirror": stores.mirror.replace("+psycopg", ""),
                "batch": BATCH,
                "variant": peer.variant,
                "limit_seconds": LIMIT_SECONDS,
            }
            path = stores.folder / "job.json"
            path.write_text(json.dumps(job))
            found = _run(peer, path)
            there = arrived(at)
            # Stopped in the midst of a batch, it may have written what it has not counted.
            if there < found["messages"] or there > count:
                raise DidNotFinishError(f"it counted {found['messages']} messages, and {there} invites arrived")
        return Run(found["messages"] / found["seconds"])
    finally:
        where.drop(stores)


def _run(peer: Peer, job: Path) -> dict[str, float]:
    try:
        ran = subprocess.run(
            [PYTHON, SCRIPTS / peer.script, job], text=True, capture_output=True, timeout=HUNG_AFTER_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise DidNotFinishError(f"it hung for {HUNG_AFTER_SECONDS} s") from None
    if ran.returncode:
        raise DidNotFinishError((ran.stderr.strip().splitlines() or ["it gave no reason"])[-1])
    found: dict[str, float] = json.loads(ran.stdout)
    return found


def _pip(*words: str) -> str:
    """What went wrong, in pip's last words; nothing where nothing did."""
    command = [str(PYTHON), "-m", "pip", "--quiet", "--disable-pip-version-check", *words]
    ran = subprocess.run(command, text=True, capture_output=True)
    return (ran.stderr.strip().splitlines() or ["no reason given"])[-1] if ran.returncode else ""


def _install_honker_alone() -> str:
    """Its wheels ask for a newer libc than the one part of it that is used here needs."""
    libraries = sysconfig.get_path("platlib", vars={"base": str(VENV), "platbase": str(VENV)})
    words = ("--no-deps", "--only-binary=:all:", "--platform", "manylinux_2_38_x86_64", "--upgrade")
    return _pip("install", *words, "--target", libraries, "honker")
