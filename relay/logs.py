"""Structured logs on standard error. They name invites by id; no payload, hash, token or code goes into them."""

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from outbox.redact import printable


class _Unfailing:
    """A stream whose writer does not end with it: its reader may go away, or its disk be full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def configure_logs(log_format: str) -> None:
    """``text`` for people, ``json`` one object a line for machines."""
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            _all_printable,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    # The scheduler reports a run that it left out because the last one still goes on; that is by design here.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)


def _all_printable(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """What a gateway or a row says must not steer the terminal that shows it."""
    return {name: _as_printable(value) for name, value in event.items()}


def _as_printable(value: object) -> object:
    if isinstance(value, list):
        return [_as_printable(one) for one in value]
    return printable(value) if isinstance(value, str) else value
