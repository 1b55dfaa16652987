"""Asking a listener, without waiting, whether a wake-up has arrived."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg
from sqlalchemy import Engine

from outbox.database.sqlite import sqlite_path
from outbox.statements import CHANNEL
from outbox.wakeups.datagram import wake_directory


@contextmanager
def hearing(engine: Engine, name: str = "ear") -> Iterator[Callable[[], int]]:
    """One that listens like a relay to ``engine``'s database. It is asked how many wake-ups had arrived; they are
    taken."""
    path = sqlite_path(engine)
    if path is not None:
        with ear(path, name) as found:
            yield lambda: woken(found)
        return
    arrived: list[psycopg.Notify] = []

    def take_all() -> int:
        # The server hands out what it has for a connection before it answers its query.
        connection.execute("SELECT 1")
        found = len(arrived)
        arrived.clear()
        return found

    with closing(driver_connection(engine)) as connection:
        connection.add_notify_handler(arrived.append)
        connection.execute(f"LISTEN {CHANNEL}")
        yield take_all


def driver_connection(engine: Engine) -> psycopg.Connection:
    """A connection to the same PostgreSQL database beside the pool, in no transaction; the caller closes it."""
    return psycopg.connect(
        engine.url.set(drivername="postgresql").render_as_string(hide_password=False), autocommit=True
    )


@contextmanager
def bound(path: Path, kind: socket.SocketKind = socket.SOCK_DGRAM) -> Iterator[socket.socket]:
    """A socket that a test holds at ``path``; it is not removed from the directory at the end."""
    with socket.socket(socket.AF_UNIX, kind) as found:
        found.bind(str(path))
        found.setblocking(False)
        yield found


@contextmanager
def ear(database: Path, name: str = "ear") -> Iterator[socket.socket]:
    """A relay's socket beside a SQLite file, held by the test so that it can look without waiting."""
    wake_directory(database).mkdir(mode=0o700, exist_ok=True)
    with bound(wake_directory(database) / name) as found:
        yield found


def woken(found: socket.socket) -> int:
    """How many wake-ups had arrived; they are taken."""
    arrived = 0
    try:
        while True:
            found.recv(1)
            arrived += 1
    except BlockingIOError:
        return arrived
