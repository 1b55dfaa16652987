"""Fresh databases for a test, on SQLite or on the PostgreSQL server that the whole run shares."""

import os
from collections.abc import Callable, Iterator
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
def server_database_in(encoding: str) -> Iterator[str]:
    """The URL of a new, empty database on the server, in another encoding than UTF8."""
    database = f"t{os.getpid()}_{next(_numbers)}"
    words = "CREATE DATABASE {} ENCODING {} LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0"
    _admin().execute(sql.SQL(words).format(sql.Identifier(database), sql.Literal(encoding)))
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


def name_of(url: str) -> str:
    """As errors name it: the file, or the server's database."""
    return Path(make_url(url).database or "").name


def alter(url: str, change: str) -> None:
    """``ALTER DATABASE``, for a server's; no connection goes on as before."""
    _admin().execute(f"ALTER DATABASE {name_of(url)} {change}")
    end_connections(url)


def end_connections(url: str) -> None:
    """Returns once the server has ended all that there are."""
    _admin().execute("SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = %s", [name_of(url)])


def is_anyone_in_mid_transaction(url: str) -> bool:
    busy = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' AND state <> 'idle'"
    return _admin().execute(busy, [name_of(url)]).fetchone() is not None


@contextmanager
def plain_role(url: str, connections: int) -> Iterator[str]:
    """The same database for a role that may read and write rows and nothing else, over so many connections."""
    role = f"{name_of(url)}_role"
    _admin().execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT {connections}")
    _admin().execute(f"GRANT pg_read_all_data, pg_write_all_data TO {role}")
    try:
        yield make_url(url).set(username=role).render_as_string(hide_password=False)
    finally:
        _admin().execute(f"DROP ROLE {role}")


@contextmanager
def copied(url: str) -> Iterator[Callable[[], None]]:
    """A copy of a server's database as it is now; calling what is given puts it in the place of the original."""
    name, copy = name_of(url), f"{name_of(url)}_copy"
    alter(url, "ALLOW_CONNECTIONS false")
    _create(copy, name)
    alter(url, "ALLOW_CONNECTIONS true")

    def restore() -> None:
        _admin().execute(f"DROP DATABASE {name} WITH (FORCE)")
        _admin().execute(f"ALTER DATABASE {copy} RENAME TO {name}")

    try:
        yield restore
    finally:
        _admin().execute(f"DROP DATABASE IF EXISTS {copy}")


def _create(name: str, template: str) -> None:
    words = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY")
    _admin().execute(words.format(sql.Identifier(name), sql.Identifier(template)))


@cache
def _admin() -> psycopg.Connection:
    url = make_url(os.environ[_SERVER])
    return psycopg.connect(url.set(drivername="postgresql").render_as_string(), autocommit=True)
