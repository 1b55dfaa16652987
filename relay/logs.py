"""Structured logs on standard error. They name invites by id; no payload, hash, token or code goes into them."""

import logging
import sys

import structlog
from structlog.typing import Processor


def configure_logs(log_format: str) -> None:
    """``text`` for people, ``json`` one object a line for machines."""
    renderer: Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    # The scheduler reports a run that it left out because the last one still goes on; that is by design here.
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
