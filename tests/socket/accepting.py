"""A Unix socket in a thread of the test's: one connection after the other, each talked to as the test says."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Talk = Callable[[socket.socket], None]


@contextmanager
def accepting(path: Path, talk: Talk) -> Iterator[None]:
    """Who connects waits until the one before it was talked to; at the end nobody is accepted any more, and whoever is
    still connected is cut off."""
    clients: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=_accept, args=(listener, talk, clients))
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for client in clients:
                # Most hung up long ago.
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
            thread.join(60)
            assert not thread.is_alive()


def _accept(listener: socket.socket, talk: Talk, clients: list[socket.socket]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        clients.append(client)
        # The client may hang up at any moment.
        with client, suppress(ConnectionError):
            talk(client)
