"""The upgrade killed with SIGKILL at every step, and run by several processes at once: no row is ever lost."""

import multiprocessing
from collections.abc import Callable
from itertools import count
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from tests.crash import run_killed_at_each_step
from tests.gateway_store.shapes import (
    ADDED_COLUMNS,
    OLD_COLUMNS,
    SHAPES,
    WITH_INVITES,
    Content,
    adopted,
    content,
    invites_in,
    make,
    query,
    schema,
    upgrade,
)

CHILD = """
    CREATE TABLE uses (id INTEGER PRIMARY KEY, invite TEXT REFERENCES ingress_invites (id) ON DELETE CASCADE);
    INSERT INTO uses VALUES (1, 'inv-000000');
"""
PROCESSES = multiprocessing.get_context("forkserver")


def upgrade_together(path: Path, together: Barrier) -> None:
    together.wait(30)
    upgrade(path)


@pytest.mark.parametrize("shape", ["fresh", "old", "all columns, code NOT NULL"])
def test_an_upgrade_killed_at_any_step_loses_nothing_and_can_be_repeated(tmp_path: Path, shape: str) -> None:
    arrange, check = _checked_runs(tmp_path, shape)
    kills = run_killed_at_each_step(upgrade, arrange)
    check()
    assert kills >= 10


@pytest.mark.parametrize("shape", SHAPES)
def test_four_processes_that_upgrade_at_once_do_it_once(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "gateway.db"
    invites = 2_000 if shape in WITH_INVITES else 0
    make(path, shape, invites=invites)
    before = invites_in(path, OLD_COLUMNS) if invites else []
    together = PROCESSES.Barrier(4)
    processes = [PROCESSES.Process(target=upgrade_together, args=(path, together)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert invites_in(path, OLD_COLUMNS) == adopted(before)
    assert query(path, "SELECT count(*) FROM gateway_store_schema_version") == [(1,)]
    assert query(path, "PRAGMA integrity_check") == [("ok",)]


def _checked_runs(folder: Path, shape: str) -> tuple[Callable[[], tuple[Any, ...]], Callable[[], None]]:
    """``arrange`` for `run_killed_at_each_step`, which first does ``check``: what has the run before left?"""
    paths = (folder / f"{number}.db" for number in count())
    reference = folder / "reference.db"
    upgrade(reference)
    runs: list[tuple[Path, Content, list[tuple[Any, ...]]]] = []

    def arrange() -> tuple[Any, ...]:
        if runs:
            check()
        path = next(paths)
        make(path, shape, *([CHILD] if shape in WITH_INVITES else []), invites=5 if shape in WITH_INVITES else 0)
        runs.append((path, content(path), _invites(path, shape)))
        return (path,)

    def check() -> None:
        path, before, invites = runs.pop()
        if query(path, "SELECT 1 FROM sqlite_master WHERE name = 'gateway_store_schema_version'"):
            assert _invites(path, shape) == adopted(invites)
        else:
            assert content(path) == before
        upgrade(path)
        after = content(path)
        assert _invites(path, shape) == adopted(invites)
        assert all(after[table] == before[table] for table in ("contacts", "uses") if table in before)
        assert schema(path) == schema(reference)

    return arrange, check


def _invites(path: Path, shape: str) -> list[tuple[Any, ...]]:
    """Every value that a database of that shape has of an invite."""
    if shape not in WITH_INVITES:
        return []
    return invites_in(path, OLD_COLUMNS if shape == "old" else OLD_COLUMNS + ADDED_COLUMNS)
