"""The connections that this process has open: which file each is on, and which thread has it in hand."""

import threading
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from weakref import ReferenceType, WeakValueDictionary, ref

from sqlalchemy import Engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from outbox.database.files import Identity, file_identity

OPENED = "outbox_opened"


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """A database's file as it was when a connection was made."""

    path: Path
    identity: Identity | None
    wal: Path
    wal_identity: Identity | None = None
    """None where there is no log."""

    def replaced(self) -> Path | None:
        """The database or its log, if it is no longer the one that the connection writes to."""
        if file_identity(self.path) != self.identity:
            return self.path
        if self.wal_identity is not None and file_identity(self.wal) != self.wal_identity:
            return self.wal
        return None


@dataclass(slots=True, weakref_slot=True, eq=False)
class Opened:
    """A connection of a pool, for as long as the pool keeps it."""

    connection: DBAPIConnection
    file: OpenedFile | None = None
    """None on PostgreSQL."""
    writes: bool = True
    """Whether the transaction at hand may write."""
    thread: int = 0
    """Who took it from the pool last."""
    proxy: ReferenceType[PoolProxiedConnection] | None = field(default=None, repr=False)

    def in_hand(self) -> PoolProxiedConnection | None:
        """What its user holds; None while it lies in the pool."""
        proxy = None if self.proxy is None else self.proxy()
        return proxy if proxy is not None and proxy.dbapi_connection is self.connection else None


# By the identity of the driver's connection, to which some drivers let nobody refer weakly. An entry goes with the
# pool's record of the connection.
_all: WeakValueDictionary[int, Opened] = WeakValueDictionary()


def opened_by(info: MutableMapping[Any, Any]) -> Opened | None:
    """None for a connection of an engine that was not set up here."""
    return info.get(OPENED)


def is_closing(connection: DBAPIConnection) -> Opened | None:
    """Forgets it; None if it is forgotten already."""
    return _all.pop(id(connection), None)


def all_opened() -> list[Opened]:
    return list(_all.values())


def follow(engine: Engine) -> None:
    """Keeps account of the engine's connections. Call it before other listeners to "connect" are set."""

    @event.listens_for(engine, "connect")
    def made(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info[OPENED] = _all[id(connection)] = Opened(connection)

    @event.listens_for(engine, "checkout")
    def taken(_connection: object, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
        opened = opened_by(record.info)
        if opened is not None:
            opened.proxy, opened.thread = ref(proxy), threading.get_ident()
