"""Every file that a command makes is private from its first moment on, and not only a moment later."""

import importlib
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from relay.serve.listening import SocketFile
from tests.system.processes import DEADLINE_SECONDS, FORKSERVER

OTHERS = 0o077


def relay(*words: str) -> None:
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("cli").main(list(words), prog_name="relay")
    assert ended.value.code == 0, words


def init_and_drain() -> None:
    relay("init")
    relay("run", "--until-empty")


def listen() -> None:
    SocketFile(Path("served/gateway.sock")).close()


def made_open_and_mended_a_moment_later() -> None:
    Path("late.db").touch(mode=0o644)
    Path("late.db").chmod(0o600)


def exposed_by(work: Callable[[], None], folder: Path) -> list[str]:
    """What others could have opened at any moment of ``work``, which runs in a new process there without a umask."""
    out = folder.parent / f"{folder.name}.json"
    process = FORKSERVER.Process(target=_watched, args=(work, folder, out))
    process.start()
    process.join(DEADLINE_SECONDS)
    assert process.exitcode == 0
    found: list[str] = json.loads(out.read_text())
    return found


def _watched(work: Callable[[], None], folder: Path, out: Path) -> None:
    os.umask(0)
    os.chdir(folder)
    exposed: set[str] = set()
    looking = False

    def look(*_: object) -> None:
        """Before every step in which Python asks something of the system: also before rights are taken away."""
        nonlocal looking
        if not looking:
            looking = True
            exposed.update(open_to_others(folder))
            looking = False

    sys.addaudithook(look)
    try:
        work()
    finally:
        look()
        looking = True
        out.write_text(json.dumps(sorted(exposed)))


def open_to_others(folder: Path) -> list[str]:
    """Nothing within a private folder can be reached."""
    found = []
    for path in folder.iterdir():
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            continue
        if mode & OTHERS:
            found.append(path.name)
            found += open_to_others(path) if stat.S_ISDIR(mode) else []
    return found


@pytest.mark.parametrize("work", [init_and_drain, listen])
def test_nothing_that_a_command_makes_is_open_to_others_at_any_moment(tmp_path: Path, work: Callable[[], None]) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    assert exposed_by(work, folder) == []
    assert list(folder.iterdir()) != []


def test_a_file_that_is_open_for_a_moment_only_would_be_seen(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    assert exposed_by(made_open_and_mended_a_moment_later, folder) == ["late.db"]
