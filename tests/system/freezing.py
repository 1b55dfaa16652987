"""Stopping a relay in its tracks, as a machine that hangs does."""

import os
import signal
import time

from sqlalchemy import make_url
from sqlalchemy.exc import OperationalError

from outbox import open_engine, writing
from tests.conftest import Stores
from tests.databases import is_anyone_in_mid_transaction
from tests.system.processes import DEADLINE_SECONDS, RelayProcess


def freeze(started: RelayProcess, stores: Stores) -> None:
    """Stops the process at a moment at which it has no transaction open: a frozen one would block everyone."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        started.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, started.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if all(_is_at_rest(url) for url in (stores.source_url, stores.mirror_url)):
            return
        started.process.send_signal(signal.SIGCONT)
    raise AssertionError("the process always had a transaction open")


def _is_at_rest(url: str) -> bool:
    if make_url(url).get_backend_name() == "postgresql":
        return not is_anyone_in_mid_transaction(url)
    engine = open_engine(url, create=False, busy_timeout=0.2)
    try:
        with writing(engine):
            return True
    except OperationalError:
        return False
    finally:
        engine.dispose()
