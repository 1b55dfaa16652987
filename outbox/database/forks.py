"""A forked child and the connections that it inherits: they are its parent's, and it makes its own.

PostgreSQL: two processes on one socket read each other's answers. SQLite: a child has none of the locks that its copy
of SQLite's memory says it has. So in the child every engine gets a new pool, and the inherited connections are taken
out of the hands that hold them, without a word to the server or a change to the file.
"""

import contextlib
import ctypes
import mmap
import os
import socket
import threading
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn
from weakref import WeakSet

from sqlalchemy import Engine

from outbox.database import file_locks, opened
from outbox.database.files import MUTEX, Identity
from outbox.database.opened import Opened, OpenedFile
from outbox.errors import InheritedConnectionError

_MAP_FIXED = 0x10
_MAPPINGS = Path("/proc/self/maps")

_engines: WeakSet[Engine] = WeakSet()
_unusable: set[Identity] = set()


def protect(engine: Engine) -> None:
    """Call it when an engine is set up."""
    opened.follow(engine)
    _engines.add(engine)


def refuse_if_unusable(identity: Identity | None, path: Path) -> None:
    """`InheritedConnectionError` in a child that can have no connection to the file of its own."""
    if identity in _unusable:
        raise InheritedConnectionError(
            f"{path} was in use by another thread when this process was forked, so SQLite's locks on it cannot be had "
            "here; fork while no other thread uses it, or start the process by spawn"
        )


class _ParentsConnection:
    """Stands for an inherited connection in the hands of whoever used it at the fork."""

    def __getattr__(self, name: str) -> NoReturn:
        raise InheritedConnectionError(
            "this connection, and the transaction on it, belong to the process that this one was forked from; "
            "nothing was done. Use a new session or connection"
        )

    def rollback(self) -> None:
        """The parent may still commit."""

    close = terminate = rollback


def _disown() -> None:
    inherited = opened.all_opened()
    in_hand = [(one, proxy) for one in inherited if (proxy := one.in_hand()) is not None]
    for _, proxy in in_hand:
        _take_away(proxy)
    for engine in list(_engines):
        engine.dispose(close=False)
    _cut_off([one.connection for one in inherited if one.file is None])
    elsewhere = {one.file.identity for one, _ in in_hand if one.file is not None and _is_elsewhere(one)}
    _close_files([one for one in inherited if one.file is not None], elsewhere)
    file_locks.forget_inherited()
    for one in inherited:
        opened.is_closing(one.connection)


def _take_away(proxy: Any) -> None:
    stand_in = _ParentsConnection()
    record = proxy._connection_record
    proxy.dbapi_connection = stand_in
    if record is not None:
        record.dbapi_connection = stand_in


def _cut_off(connections: Sequence[Any]) -> None:
    """Gives each socket's descriptor an end that leads nowhere: whatever is said there, the parent's server hears none
    of it. And if the parent dies, its session ends, which an open copy of the socket would prevent."""
    here, there = socket.socketpair()
    there.close()
    with here:
        for connection in connections:
            with contextlib.suppress(Exception):
                driver = _driver(connection)
                os.dup2(here.fileno(), driver.fileno(), inheritable=False)
                driver.pgconn.finish()


def _is_elsewhere(one: Opened) -> bool:
    """In the hand of a thread that is not there any more: it may have been inside SQLite, and hold its mutexes. One of
    an asyncio driver always works in a thread of its own."""
    return one.thread != threading.get_ident() or _driver(one.connection) is not one.connection


def _close_files(inherited: Sequence[Opened], elsewhere: set[Identity | None]) -> None:
    """Only when none of its connections is open does SQLite forget the locks that this process has not got."""
    by_file: defaultdict[Identity | None, list[Opened]] = defaultdict(list)
    for one in inherited:
        by_file[one.file.identity if one.file else None].append(one)
    for identity, connections in by_file.items():
        if identity is not None and (identity in elsewhere or not _close_all(identity, connections)):
            _unusable.add(identity)
            _never_destroy(connections)


def _close_all(identity: Identity, connections: Sequence[Opened]) -> bool:
    """Whether SQLite closed them all. It does not delete the -wal: the parent's lock is still held here too."""
    try:
        before = len(file_locks.open_descriptors(identity))
        for file in {one.file for one in connections if one.file is not None}:
            _keep_index_to_itself(file)
        for one in connections:
            _sqlite_connection(one.connection).close()
        return before - len(file_locks.open_descriptors(identity)) >= len(connections)
    except Exception:  # noqa: BLE001 - of whichever driver is in use, and no hook may raise
        return False


def _keep_index_to_itself(file: OpenedFile) -> None:
    """Closing rolls back, and a rollback removes its pages from the index in the -shm, of which the parent's
    transaction is not at its end: the child gets a copy of that memory in its place."""
    index = str(file.path.with_name(file.path.name + "-shm"))
    for line in _MAPPINGS.read_text(errors="surrogateescape").splitlines():
        where, _, offset, _, _, *name = line.split(None, 5)
        if name == [index]:
            first, last = (int(part, 16) for part in where.split("-"))
            _map_private_copy(Path(index), first, last - first, int(offset, 16))


def _map_private_copy(path: Path, address: int, size: int, offset: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    with path.open("rb") as source:
        rights, kind = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | _MAP_FIXED
        if libc.mmap(address, size, rights, kind, source.fileno(), offset) != address:
            raise OSError(ctypes.get_errno(), f"cannot copy {path}")


def _never_destroy(connections: Sequence[Opened]) -> None:
    """Their destructors would close them, and that could wait for ever, or drop locks of the process."""
    for one in connections:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(_sqlite_connection(one.connection)))


def _driver(connection: Any) -> Any:
    """The driver's own connection, under the adapter that SQLAlchemy puts around an asyncio driver's."""
    return getattr(connection, "driver_connection", connection)


def _sqlite_connection(connection: Any) -> Any:
    """Under asyncio, what the driver keeps in its thread."""
    driver = _driver(connection)
    return getattr(driver, "_conn", driver)


def _in_child() -> None:
    MUTEX.release()
    _disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=MUTEX.acquire, after_in_parent=MUTEX.release, after_in_child=_in_child)
