"""A process of its own that forks: what the child does there, and how it ended."""

import os
import select
import signal
import sys
import traceback
from collections.abc import Callable

from sqlalchemy import Engine, create_engine
from sqlalchemy.orm import Session

from outbox import configure_engine, enqueue, open_engine
from outbox.database.sqlite import sqlite_module
from tests.outbox.conftest import TOPIC
from tests.outbox.processes import PROCESSES

DEADLINE_SECONDS = 60.0


def run_apart(work: Callable[..., None], *args: object) -> None:
    """``work(*args)``, a module-level function, in a new process of one thread; one that fails fails the test."""
    process = PROCESSES.Process(target=work, args=args)
    process.start()
    process.join(2 * DEADLINE_SECONDS)
    if process.exitcode is None:
        process.kill()
    assert process.exitcode == 0


def forked(work: Callable[[], None]) -> int:
    """A child that does ``work`` and nothing else; its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work()
    except BaseException:  # noqa: BLE001 - the child must never go on in its parent's place
        traceback.print_exc(file=sys.stderr)
        os._exit(1)
    os._exit(0)


def exit_code(child: int) -> int:
    """How it ended; one that hangs is killed."""
    descriptor = os.pidfd_open(child)
    ended, _, _ = select.select([descriptor], [], [], DEADLINE_SECONDS)
    os.close(descriptor)
    if not ended:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert ended, "the child hangs"
    return os.waitstatus_to_exitcode(status)


def opened(url: str) -> Engine:
    return open_engine(url)


def opened_by_a_relay(url: str) -> Engine:
    return open_engine(url, relay=True)


def configured(url: str) -> Engine:
    engine = create_engine(url, **({"module": sqlite_module()} if url.startswith("sqlite") else {}))
    configure_engine(engine)
    return engine


def add(session: Session, key: str) -> None:
    enqueue(session, topic=TOPIC, key=key, version=1, payload="{}")


def commit(engine: Engine, *keys: str) -> None:
    for key in keys:
        with Session(engine) as session, session.begin():
            add(session, key)
