"""What libraries say through `logging` and `warnings`, as lines of the relay's own log."""

import logging

import structlog

from outbox.redact import reason_of, redact_reason

log = structlog.get_logger()


class _AsOurs(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, KeyboardInterrupt):
            # The request to stop broke into what the library was doing: that is no fault, and is known already.
            return
        reason = redact_reason(_said(record))
        if isinstance(error, Exception):
            reason = f"{reason}: {type(error).__name__}: {reason_of(error)}"
        say = log.error if record.levelno >= logging.ERROR else log.warning
        say("library_warning", library=record.name, reason=reason)


def _said(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # Its arguments do not fit its format; the caller is not to fail by what it logs.
        return str(record.msg)


def bring_in_what_libraries_say() -> None:
    """From warnings on, one line each: a reader of JSON must not meet a traceback. May be called again."""
    root = logging.getLogger()
    for handler in [one for one in root.handlers if isinstance(one, _AsOurs)]:
        root.removeHandler(handler)
    root.addHandler(_AsOurs(logging.WARNING))
    logging.captureWarnings(True)
    # The scheduler reports a run that it left out because the last one still goes on; that is by design here.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
