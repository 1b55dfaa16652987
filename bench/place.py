"""Where a benchmark's stores lie: files in a folder, or databases of a PostgreSQL server started for it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from sqlalchemy import make_url

from tests.postgres import Cluster


@dataclass(frozen=True, slots=True)
class Stores:
    """The two databases' URLs, and a folder of their own for whatever else goes with them."""

    folder: Path
    source: str
    mirror: str

    @property
    def urls(self) -> tuple[str, str]:
        return self.source, self.mirror


@dataclass(slots=True)
class Place:
    """Makes pairs of databases on one disk, empty or as copies."""

    folder: Path
    server: Cluster | None
    _numbers: "count[int]" = field(default_factory=count)

    def empty(self) -> Stores:
        stores = self._named(next(self._numbers))
        if self.server is not None:
            for url in stores.urls:
                self._administer(f"CREATE DATABASE {_name(url)}")
        return stores

    def copy(self, other: Stores) -> Stores:
        """Nobody may have ``other`` open."""
        stores = self._named(next(self._numbers))
        for old, new in zip(other.urls, stores.urls, strict=True):
            if self.server is not None:
                self._administer(f"CREATE DATABASE {_name(new)} TEMPLATE {_name(old)}")
            else:
                shutil.copyfile(_name(old), _name(new))
        return stores

    def drop(self, stores: Stores) -> None:
        if self.server is not None:
            for url in stores.urls:
                self._administer(f"DROP DATABASE {_name(url)} WITH (FORCE)")
        shutil.rmtree(stores.folder)

    def _named(self, number: int) -> Stores:
        folder = self.folder / str(number)
        folder.mkdir()
        if self.server is not None:
            return Stores(folder, self.server.url(f"assistant_{number}"), self.server.url(f"gateway_{number}"))
        return Stores(folder, f"sqlite:///{folder / 'assistant.db'}", f"sqlite:///{folder / 'gateway.db'}")

    def _administer(self, statement: str) -> None:
        assert self.server is not None
        with psycopg.connect(self.server.url().replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statement.encode())


@contextmanager
def place(backend: str) -> Iterator[Place]:
    """A server has its usual settings, and its data on the disk that SQLite's files lie on too."""
    with TemporaryDirectory(prefix="relay-bench-") as name, ExitStack() as stack:
        folder, server = Path(name), None
        if backend == "postgresql":
            folder.chmod(0o755)
            (folder / "server").mkdir()
            server = stack.enter_context(Cluster(folder / "server"))
        yield Place(folder, server)


def _name(url: str) -> str:
    found = make_url(url).database
    assert found is not None
    return found
