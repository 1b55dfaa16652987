"""Serving the gateway: its store, its methods, on a socket."""

from functools import partial

from sqlalchemy import Engine

from gateway_store.invites.mirror import CACHE_MIB
from gateway_store.socket.answering import answers
from gateway_store.socket.methods import METHODS, Asked
from outbox import open_engine
from relay.destinations.socket_url import socket_path
from relay.make_stores import refuse_others, upgrade_store
from relay.serve.methods import Methods
from relay.serve.process import serve
from relay.stores import examine
from relay.systemd import Systemd
from relay.topics import MIRROR, upgrade_mirror
from relay.urls import check_url

# Shorter than the 5 s after which clients give up: an answer that says "locked" beats none.
BUSY_SECONDS = 2.0


def serve_gateway(listen: str, db: str, systemd: Systemd) -> None:
    """Upgrades the store, then serves until SIGTERM or Ctrl-C; answers what it has read, and removes its socket.

    Raises `UnreachableError` where the store or the socket cannot be had.
    """
    path = socket_path(listen, "--listen")
    check_url(db, "--db")
    # Never created by a request: where somebody removed it, an empty one would look like a gateway without contacts.
    engine = open_engine(db, create=False, busy_timeout=BUSY_SECONDS, relay=True, cache_mib=CACHE_MIB)
    try:
        serve(path, partial(_upgrade, db), methods_of(engine).replies, systemd)
    finally:
        engine.dispose()


def methods_of(engine: Engine) -> Methods[Asked]:
    """The gateway's, on its store."""
    return Methods(METHODS, partial(answers, engine))


def _upgrade(db: str) -> None:
    found = examine(db, MIRROR)
    refuse_others(found)
    upgrade_store(found, db, upgrade_mirror)
