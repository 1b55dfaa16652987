"""Fresh databases for a test, on SQLite or on the PostgreSQL server that the whole run shares."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
from psycopg import sql
from sqlalchemy import make_url

import assistant_store
import gateway_store
import outbox
from outbox import open_engine
from tests.postgres import Cluster

BACKENDS = ("sqlite", "postgresql")
EMPTY, OUTBOX, SOURCE, MIRROR = "template0", "outbox_template", "source_template", "mirror_template"
_SERVER = "TESTS_POSTGRESQL"
_numbers = count(1)


def announce(cluster: Cluster) -> None:
    """Makes the templates, and the server known to this process and those started by it from now on."""
    os.environ[_SERVER] = cluster.url()
    upgrades = {OUTBOX: outbox.upgrade, SOURCE: assistant_store.upgrade, MIRROR: gateway_store.upgrade}
    for name, upgrade in upgrades.items():
        _create(name, EMPTY)
        engine = open_engine(server_url(name))
        upgrade(engine)
        engine.dispose()


def server_url(database: str) -> str:
    return make_url(os.environ[_SERVER]).set(database=database).render_as_string(hide_password=False)


@contextmanager
def database_url(backend: str, folder: Path, name: str, template: str = EMPTY) -> Iterator[str]:
    """The URL of a new database: a file ``name`` in ``folder``, not made yet, or a copy of ``template``."""
    if backend == "sqlite":
        yield f"sqlite:///{folder / name}"
        return
    database = f"t{os.getpid()}_{next(_numbers)}"
    _create(database, template)
    try:
        yield server_url(database)
    finally:
        _admin().execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))


@contextmanager
def store_urls(backend: str, folder: Path) -> Iterator[tuple[str, str]]:
    """The daemon's and the gateway's database; on PostgreSQL both hold their tables already."""
    with ExitStack() as stack:
        source = stack.enter_context(database_url(backend, folder, "assistant.db", SOURCE))
        yield source, stack.enter_context(database_url(backend, folder, "gateway.db", MIRROR))


def _create(name: str, template: str) -> None:
    words = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    _admin().execute(words.format(sql.Identifier(name), sql.Identifier(template)))


@cache
def _admin() -> psycopg.Connection:
    url = make_url(os.environ[_SERVER])
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(), autocommit=True)
