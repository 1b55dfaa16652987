"""Cuts connections whose server has stopped answering: the driver itself waits for ever."""

import contextlib
import os
import socket
import threading
import time
from weakref import WeakSet

import psycopg

LOOK_EVERY_SECONDS = 0.5
# Then the thread ends, until it is needed again.
IDLE_LOOKS = 60

_all: "WeakSet[Watch]" = WeakSet()


class Watch:
    """Every connection in use has ``seconds`` to be given back; its statement then fails as if the server had gone."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.forget()
        _all.add(self)

    def forget(self) -> None:
        """A forked child has neither the thread nor the connections, and nobody to give the lock back."""
        self._in_use: dict[int, tuple[psycopg.Connection, float]] = {}
        self._mutex = threading.Lock()
        self._is_looking = False

    def begin(self, key: int, connection: psycopg.Connection) -> None:
        with self._mutex:
            self._in_use[key] = (connection, time.monotonic() + self._seconds)
            if not self._is_looking:
                self._is_looking = True
                threading.Thread(target=self._look, daemon=True, name="watch").start()

    def end(self, key: int) -> None:
        with self._mutex:
            self._in_use.pop(key, None)

    def _look(self) -> None:
        pause, idle = threading.Event(), 0
        while True:
            pause.wait(min(LOOK_EVERY_SECONDS, self._seconds))
            with self._mutex:
                idle = 0 if self._in_use else idle + 1
                if idle > IDLE_LOOKS:
                    self._is_looking = False
                    return
                now = time.monotonic()
                late = [key for key, (_, until) in self._in_use.items() if until < now]
                for key in late:
                    _cut(self._in_use.pop(key)[0])


def _cut(connection: psycopg.Connection) -> None:
    """Its socket is at its end for whoever waits on it; the descriptor stays the driver's."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def _in_child() -> None:
    for one in list(_all):
        one.forget()


os.register_at_fork(after_in_child=_in_child)
