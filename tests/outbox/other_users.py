"""Places that belong to other users, and processes that run as one of them; only root can have either."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from outbox import DatabaseMissingError, open_engine
from outbox.database.sqlite import sqlite_module
from tests.outbox.processes import PROCESSES

VICTIM, STRANGER = 65533, 65534
DEADLINE_SECONDS = 60.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user, or give a file away")


@pytest.fixture
def open_way() -> Iterator[Path]:
    """A folder of root's that all users can reach: pytest's own are closed to them."""
    folder = Path(tempfile.mkdtemp(prefix="relay-tests-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def folder_of(uid: int, path: Path, mode: int = 0o700) -> Path:
    path.mkdir()
    path.chmod(mode)
    os.chown(path, uid, uid)
    return path


def file_of(uid: int, path: Path, mode: int = 0o600) -> Path:
    path.touch()
    path.chmod(mode)
    os.chown(path, uid, uid)
    return path


def link_of(uid: int, path: Path, target: str | Path) -> Path:
    path.symlink_to(target)
    os.chown(path, uid, uid, follow_symlinks=False)
    return path


def refusal(path: Path, **settings: Any) -> str | None:
    """What opening the database says; None where it is opened."""
    engine = open_engine(f"sqlite:///{path}", **settings)
    try:
        engine.connect().close()
    except DatabaseMissingError as error:
        return f"{type(error).__name__}: {error}"
    finally:
        engine.dispose()
    return None


def refusal_to(uid: int, path: Path, trusted: str = "") -> str | None:
    """`refusal` in a process of that user's, with ``trusted`` as its RELAY_TRUSTED_UID."""
    said: str | None = run_as(uid, refusal, path, trusted=trusted)
    return said


def run_as(uid: int, work: Callable[..., Any], *args: Any, trusted: str = "") -> Any:
    """What ``work(*args)``, a module-level function, returns in a process of that user's."""
    answers = PROCESSES.Queue()
    process = PROCESSES.Process(target=_run, args=(uid, trusted, work, args, answers))
    process.start()
    answer = answers.get(timeout=DEADLINE_SECONDS)
    process.join(DEADLINE_SECONDS)
    assert process.exitcode == 0
    return answer


def _run(uid: int, trusted: str, work: Callable[..., Any], args: tuple[Any, ...], answers: Any) -> None:
    # Imported while it can be read: the source may be closed to other users.
    create_engine("sqlite://", module=sqlite_module()).connect().close()
    os.environ["RELAY_TRUSTED_UID"] = trusted
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
    answers.put(work(*args))
