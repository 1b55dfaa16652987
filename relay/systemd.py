"""What systemd is told where it started this process: that it is ready, that it works, that it stops.

A few bytes a time, in the protocol of `sd_notify`. Nothing waits for systemd's socket and nothing fails because of it:
what it did not take is said again with the next word.
"""

import os
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

# So many words in the time after which systemd takes the process for hung, and at least one in two seconds: a drain
# that stood still for a while is heard of soon after it goes on.
WORDS_A_DEADLINE = 4
LONGEST_PAUSE = timedelta(seconds=2)
READY, WORKS, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"

log = structlog.get_logger()


@dataclass(slots=True)
class Systemd:
    """Who is told, or nobody: then `every` is None and all words are lost. Its methods may run in any thread."""

    address: bytes | None = None
    watches: bool = False
    """It kills a process of which it has not heard for a while that it works."""
    every: timedelta | None = None
    """How often `works` is to be called, while it is true."""
    _unsaid: list[str] = field(default_factory=list)
    _said_at: float = 0.0
    _has_warned: bool = False
    _mutex: threading.Lock = field(default_factory=threading.Lock)

    def ready(self) -> None:
        self._say(READY)

    def works(self) -> None:
        """To be called as long as work goes on, as often as one likes."""
        if self.every is None or time.monotonic() - self._said_at < self.every.total_seconds() / 2:
            return
        self._said_at = time.monotonic()
        self._say(*([WORKS] if self.watches else []))

    def stopping(self) -> None:
        # The time until it is taken for hung begins anew, for what is still to be done.
        self._say(STOPPING, *([WORKS] if self.watches else []))

    def _say(self, *words: str) -> None:
        if self.address is None:
            return
        with self._mutex:
            to_say = [*self._unsaid, *words]
            if not to_say:
                return
            try:
                _send(self.address, "\n".join(to_say).encode())
                self._unsaid = []
            except OSError as error:
                # That it worked a while ago is no news.
                self._unsaid = [word for word in to_say if word != WORKS]
                self._warn(str(error))

    def _warn(self, reason: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("systemd_not_told", reason=reason, effect="it may take this process for hung, and restart it")


def _send(address: bytes, words: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(words, address)


def systemd_of(environment: Mapping[str, str]) -> Systemd:
    """As systemd has said in the environment that it wants to be told."""
    name = environment.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):
        if name:
            log.warning("systemd_not_told", reason=f"NOTIFY_SOCKET={name} is no Unix socket")
        return Systemd()
    address = os.fsencode(name)
    deadline = _deadline(environment)
    every = LONGEST_PAUSE if deadline is None else min(LONGEST_PAUSE, deadline / WORDS_A_DEADLINE)
    abstract = b"\0" + address[1:]
    return Systemd(abstract if name.startswith("@") else address, deadline is not None, every)


def _deadline(environment: Mapping[str, str]) -> timedelta | None:
    """After what silence this very process is taken for hung; None where it is not watched."""
    watched, microseconds = environment.get("WATCHDOG_PID", ""), environment.get("WATCHDOG_USEC", "")
    if watched not in ("", str(os.getpid())) or not (microseconds.isascii() and microseconds.isdigit()):
        return None
    try:
        return timedelta(microseconds=int(microseconds)) or None
    except (OverflowError, ValueError):
        return None
