"""SIGTERM from the first line of `cli.py` on: what runs until it is stopped ends with 0, any other command with 3.

A worker or a server handles it by itself while it runs. Imported before everything else, so this imports little.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

RUN_UNTIL_STOPPED = ("run", "gateway")
# Of the options before a command's name those that take a value.
VALUED_OPTIONS = ("--assistant-db", "--gateway")
STOPPED, INTERRUPTED = 0, 3
# A second SIGTERM this soon after the first is no other request, and must not break into what the first one began.
SAME_REQUEST_SECONDS = 1.0


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


class _Seen:
    at = -SAME_REQUEST_SECONDS
    ever = False


def listen() -> None:
    """While modules are imported nothing is open that would have to be closed: the process ends at once."""
    if _is_main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(exit_code(sys.argv[1:])))
        # While the interpreter ends it would give the signal its own meaning back, and end otherwise than it was to.
        atexit.register(_ignore)


@contextmanager
def raising() -> Iterator[None]:
    """Inside, SIGTERM raises `Terminated`; afterwards it changes nothing any more, for the process is ending."""
    if not _is_main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _raise)
    sys.unraisablehook = _quiet_of_stops
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, _note)


def that_stop() -> list[signal.Signals]:
    """The signals that end what runs until it is stopped. A shell ignores SIGINT for what it runs in the background, so
    that a Ctrl-C meant for another command does not end it; it stays ignored."""
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    return [signal.SIGTERM] if ignored else [signal.SIGTERM, signal.SIGINT]


def came() -> bool:
    """Whether SIGTERM has come. What it raises is lost where it interrupts a finalizer."""
    return _Seen.ever


def exit_code(words: Sequence[str]) -> int:
    """What a `relay` command with these arguments ends with if SIGTERM stops it."""
    served = _command(words) in RUN_UNTIL_STOPPED and "--until-empty" not in words
    return STOPPED if served else INTERRUPTED


def _command(words: Sequence[str]) -> str | None:
    rest = iter(words)
    for word in rest:
        if word in VALUED_OPTIONS:
            next(rest, None)
        elif not word.startswith("-"):
            return word
    return None


def _note(*_: object) -> None:
    _Seen.ever = True


def _raise(*_: object) -> None:
    _Seen.ever = True
    before, _Seen.at = _Seen.at, time.monotonic()
    if _Seen.at - before >= SAME_REQUEST_SECONDS:
        raise Terminated


def _quiet_of_stops(lost: "sys.UnraisableHookArgs") -> None:
    """What a finalizer cannot pass on is printed as a fault; a request to stop is none, and is noted."""
    if not isinstance(lost.exc_value, Terminated):
        sys.__unraisablehook__(lost)


def _ignore() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
