"""What is waited for, with a deadline: that a database is in some state, that a process stands still."""

import os
import signal
import threading
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Engine

from tests.conftest import Stores, rows
from tests.system.processes import DEADLINE_SECONDS, RelayProcess

# Never set: between two looks the proxies and daemons of this very process go on.
_OTHERS_TURN = threading.Event()


def until(what: str, is_so: Callable[[], object], seconds: float = DEADLINE_SECONDS) -> float:
    """Returns after how many seconds it was so."""
    started = time.monotonic()
    while not is_so():
        assert time.monotonic() < started + seconds, f"not within {seconds} s: {what}"
        _OTHERS_TURN.wait(0.01)
    return time.monotonic() - started


def until_drained(stores: Stores, *relays: RelayProcess) -> None:
    """By the relays that run, of which none may end."""
    query = "SELECT 1 FROM outbox_messages WHERE state IN ('pending', 'retrying') LIMIT 1"

    def is_drained() -> bool:
        assert all(one.process.poll() is None for one in relays), "a relay ended"
        return not rows(stores.source, query)

    until("every message is settled", is_drained)


def until_settled(stores: Stores, *invites: str) -> float:
    query = f"SELECT 1 FROM outbox_messages WHERE settled_at IS NULL AND key IN {in_list(invites)} LIMIT 1"
    return until(f"{len(invites)} invites are settled", lambda: not rows(stores.source, query))


def in_list(texts: Sequence[str]) -> str:
    return "(" + ", ".join(f"'{text}'" for text in texts) + ")"


def until_one_waits_for_a_lock(engine: Engine) -> None:
    until("somebody waits for a lock", lambda: waits_for_a_lock(engine))


def waits_for_a_lock(engine: Engine) -> bool:
    """Whether anybody does in ``engine``'s database."""
    return _is_any_session(engine, "wait_event_type = 'Lock'")


def is_in_mid_transaction(engine: Engine) -> bool:
    """Whether anybody stands still between two statements of one."""
    return _is_any_session(engine, "state = 'idle in transaction'")


def _is_any_session(engine: Engine, condition: str) -> bool:
    return bool(rows(engine, f"SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND {condition}"))


def stop(started: RelayProcess) -> None:
    """SIGSTOP; returns once it stands still."""
    started.process.send_signal(signal.SIGSTOP)
    os.waitpid(started.pid, os.WUNTRACED)


def go_on(started: RelayProcess) -> None:
    started.process.send_signal(signal.SIGCONT)
