"""The upgrade killed with SIGKILL at every step, and run by several processes at once: no row is ever lost."""

from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.crash import run_killed_at_each_step
from tests.databases import database_url
from tests.gateway_store.catalogue import Content, content, query, schema, tables
from tests.gateway_store.shapes import (
    ADDED_COLUMNS,
    CHILD,
    OLD_COLUMNS,
    SHAPES,
    WITH_INVITES,
    adopted,
    invites_in,
    make,
    upgrade,
)
from tests.outbox.processes import run_together

VERSION = "gateway_store_schema_version"


@pytest.mark.parametrize("shape", ["fresh", "old", "all columns, code NOT NULL"])
def test_an_upgrade_killed_at_any_step_loses_nothing_and_can_be_repeated(
    tmp_path: Path, backend: str, shape: str
) -> None:
    with ExitStack() as databases:
        names = (f"{number}.db" for number in count())
        runs = Runs(shape, lambda: databases.enter_context(database_url(backend, tmp_path, next(names))))
        kills = run_killed_at_each_step(upgrade, runs.arrange)
        runs.check_last()
    assert kills >= 10


@pytest.mark.parametrize("shape", SHAPES)
def test_four_processes_that_upgrade_at_once_do_it_once(url: str, shape: str) -> None:
    invites = 2_000 if shape in WITH_INVITES else 0
    make(url, shape, invites=invites)
    before = invites_in(url, OLD_COLUMNS) if invites else []
    run_together(4, upgrade, url)
    assert invites_in(url, OLD_COLUMNS) == adopted(before)
    assert query(url, f"SELECT count(*) FROM {VERSION}") == [(1,)]


class Runs:
    """Databases of one shape for `run_killed_at_each_step`; before the next is made, the last is looked at."""

    def __init__(self, shape: str, new_database: Callable[[], str]) -> None:
        self._shape = shape
        self._new_database = new_database
        reference = new_database()
        upgrade(reference)
        self._schema = schema(reference)
        self._last: tuple[str, Content, list[tuple[Any, ...]]] | None = None

    def arrange(self) -> tuple[str]:
        if self._last is not None:
            self.check_last()
        url, filled = self._new_database(), self._shape in WITH_INVITES
        make(url, self._shape, *([CHILD] if filled else []), invites=5 if filled else 0)
        self._last = url, content(url), self._invites(url)
        return (url,)

    def check_last(self) -> None:
        assert self._last is not None
        url, before, invites = self._last
        if VERSION in tables(url):
            assert self._invites(url) == adopted(invites)
        else:
            assert content(url) == before
        upgrade(url)
        after = content(url)
        assert self._invites(url) == adopted(invites)
        assert all(after[table] == before[table] for table in ("contacts", "uses") if table in before)
        assert schema(url) == self._schema

    def _invites(self, url: str) -> list[tuple[Any, ...]]:
        """Every value that a database of that shape has of an invite."""
        if self._shape not in WITH_INVITES:
            return []
        return invites_in(url, OLD_COLUMNS if self._shape == "old" else OLD_COLUMNS + ADDED_COLUMNS)
