"""A database with nothing in it, and one that the daemon has used before this project."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assistant_store.daemon import definitions, invite_row, make_daemon_database
from tests.databases import database_url


@pytest.fixture
def url(tmp_path: Path, backend: str) -> Iterator[str]:
    with database_url(backend, tmp_path, "daemon.db") as url:
        yield url


@pytest.fixture
def daemon_url(url: str, backend: str) -> str:
    """With the daemon's own table, and fifty invites in it."""
    make_daemon_database(url, definitions(backend), [invite_row(number) for number in range(1, 51)])
    return url
