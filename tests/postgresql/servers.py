"""Stores of which one lies on a server that a test may hurt, and that server's settings."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Literal

import psycopg
from sqlalchemy import Engine, make_url

import assistant_store
import gateway_store
from outbox import open_engine
from tests.conftest import CONTACT, Stores
from tests.databases import MIRROR, SOURCE, database_url
from tests.postgres import Cluster

Side = Literal["source", "mirror"]
_UPGRADES: dict[Side, Callable[[Engine], None]] = {
    "source": assistant_store.upgrade,
    "mirror": gateway_store.upgrade,
}
_TEMPLATES: dict[Side, str] = {"source": SOURCE, "mirror": MIRROR}
_numbers = count(1)


def execute(cluster: Cluster, *statements: str) -> None:
    """Outside of a transaction, as its superuser."""
    url = make_url(cluster.url()).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


@contextmanager
def stores_with(own_server: Cluster, folder: Path, *sides: Side) -> Iterator[Stores]:
    """The stores of ``sides`` in new databases of ``own_server``, the others on the server that all share."""
    with ExitStack() as stack:

        def place(side: Side) -> str:
            if side in sides:
                return _new_database(own_server, side)
            return stack.enter_context(database_url("postgresql", folder, side, _TEMPLATES[side]))

        source_url, mirror_url = place("source"), place("mirror")
        source, mirror = open_engine(source_url), open_engine(mirror_url)
        stack.callback(source.dispose)
        stack.callback(mirror.dispose)
        made = Stores(folder, source_url, mirror_url, source, mirror)
        made.add_contact(CONTACT)
        yield made


@contextmanager
def read_only(server: Cluster) -> Iterator[None]:
    """As after a failover to a standby, for all transactions that begin from now on."""
    execute(server, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        execute(server, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


@contextmanager
def stopped(server: Cluster) -> Iterator[None]:
    server.stop()
    try:
        yield
    finally:
        server.start()


def _new_database(cluster: Cluster, side: Side) -> str:
    name = f"{side}_{next(_numbers)}"
    execute(cluster, f"CREATE DATABASE {name}")
    engine = open_engine(cluster.url(name))
    _UPGRADES[side](engine)
    engine.dispose()
    return cluster.url(name)
