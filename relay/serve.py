"""Serving the gateway's socket as a process of its own."""

import signal

import structlog

from gateway_store.listening import ListenError, SocketFile
from gateway_store.mirror import CACHE_MIB
from gateway_store.server import Server
from outbox import open_engine
from relay import sigterm
from relay.destinations.socket_url import socket_path
from relay.errors import UnreachableError
from relay.make_stores import refuse_others, upgrade_store
from relay.stores import examine
from relay.systemd import Systemd
from relay.topics import MIRROR, upgrade_mirror
from relay.urls import check_url

# Shorter than the 5 s after which clients give up: an answer that says "locked" beats none.
BUSY_SECONDS = 2.0

log = structlog.get_logger()


def serve_gateway(listen: str, db: str, systemd: Systemd) -> None:
    """Upgrades the store, then serves until SIGTERM or Ctrl-C; answers what it has read, and removes its socket.

    Raises `UnreachableError` where the store or the socket cannot be had.
    """
    path = socket_path(listen, "--listen")
    check_url(db, "--db")
    # Never created by a request: where somebody removed it, an empty one would look like a gateway without contacts.
    engine = open_engine(db, create=False, busy_timeout=BUSY_SECONDS, relay=True, cache_mib=CACHE_MIB)
    try:
        # Bound first: a second server must not touch the store of one that runs.
        file = SocketFile(path)
        try:
            _upgrade(db)
        except BaseException:
            file.close()
            raise
        server = Server(engine, file, on_turn=systemd.works)
        for number in sigterm.that_stop():
            signal.signal(number, lambda *_: server.stop())
        if sigterm.came():
            server.stop()
        log.info("listening", socket=str(path))
        systemd.ready()
        server.serve()
        systemd.stopping()
        log.info("stopped", socket=str(path))
    except ListenError as error:
        raise UnreachableError(str(error)) from error
    finally:
        engine.dispose()


def _upgrade(db: str) -> None:
    found = examine(db, MIRROR)
    refuse_others(found)
    upgrade_store(found, db, upgrade_mirror)
