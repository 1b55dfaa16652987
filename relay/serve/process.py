"""Serving a side's socket as a process of its own, from the bind to the last answer."""

import signal
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog

from relay import sigterm
from relay.errors import UnreachableError
from relay.serve.listening import ListenError, SocketFile
from relay.serve.server import Server
from relay.systemd import Systemd

log = structlog.get_logger()


def serve(
    path: Path, prepare: Callable[[], None], replies: Callable[[Iterable[bytes]], Sequence[bytes]], systemd: Systemd
) -> None:
    """Binds, has the store prepared, and serves until SIGTERM or Ctrl-C; answers what it has read, and removes its
    socket.

    Raises what ``prepare`` raises, and `UnreachableError` where the socket cannot be had.
    """
    try:
        # Bound first: a second server must not touch the store of one that runs.
        file = SocketFile(path)
    except ListenError as error:
        raise UnreachableError(str(error)) from error
    try:
        prepare()
    except BaseException:
        file.close()
        raise
    server = Server(replies, file, on_turn=systemd.works)
    for number in sigterm.that_stop():
        signal.signal(number, lambda *_: server.stop())
    if sigterm.came():
        server.stop()
    log.info("listening", socket=str(path))
    systemd.ready()
    server.serve()
    systemd.stopping()
    log.info("stopped", socket=str(path))
