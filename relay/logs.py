"""Structured logs on standard error. They name invites by id; no payload, hash, token or code goes into them."""

import contextlib
import sys
from collections.abc import Sequence
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from outbox.redact import printable, redact
from relay.library_logs import bring_in_what_libraries_say
from relay.standard_error import DroppingStream


class _Unwaiting:
    """A stream whose writer goes on at once: `DroppingStream` without the wait of its `flush`."""

    def __init__(self, stream: DroppingStream) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        self._stream.write(text.encode(errors="backslashreplace"))

    def flush(self) -> None: ...


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
    processors: list[Processor] = [
        _all_printable,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        renderer,
    ]
    structlog.configure(
        processors=processors,
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, _stream(processors))),
        cache_logger_on_first_use=False,
    )
    bring_in_what_libraries_say()


def _stream(processors: Sequence[Processor]) -> _Unwaiting | _Unfailing:
    stream = getattr(sys.stderr, "buffer", None)
    if not isinstance(stream, DroppingStream):
        return _Unfailing(sys.stderr)

    def dropped_line(count: int) -> str:
        event: EventDict = {"event": "log_lines_dropped", "count": count, "reason": "could not be written in time"}
        line: object = event
        for step in processors:
            line = step(None, "warning", cast(EventDict, line))
        return f"{line}\n"

    stream.dropped_line = dropped_line
    return _Unwaiting(stream)


def _all_printable(_logger: WrappedLogger, _name: str, event: EventDict) -> EventDict:
    """What a gateway or a row says must not steer the terminal that shows it, and no reason shows a hash."""
    said = {
        name: redact(value) if name == "reason" and isinstance(value, str) else value for name, value in event.items()
    }
    return {name: _as_printable(value) for name, value in said.items()}


def _as_printable(value: object) -> object:
    if isinstance(value, list):
        return [_as_printable(one) for one in value]
    return printable(value) if isinstance(value, str) else value
