"""What one message costs a relay, in microseconds, by step and by statement: the tables of docs/performance.md.

python -m bench.costs {sqlite,postgresql} [MESSAGES]. Measuring itself costs a few microseconds a message.
"""

import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine.default import DefaultDialect

import gateway_store.invites.apply
import gateway_store.invites.mirror
import outbox.database.rows
import relay.drain
from bench.draining import FEW
from bench.heap import heap
from bench.place import place
from relay.console import Printer
from relay.logs import configure_logs
from relay.open import open_gateway, open_source
from relay.worker import Worker

STEPS: tuple[tuple[Any, str], ...] = (
    (relay.drain.Drain, "batch"),
    (relay.drain.Drain, "_read"),
    (relay.drain, "deliver"),
    (gateway_store.invites.mirror, "_parsed_batch"),
    (gateway_store.invites.apply.Invites, "write"),
    (gateway_store.invites.apply, "_write"),
    (outbox.database.rows, "copy_rows"),
    (relay.drain.Drain, "_settle"),
    (relay.drain, "settle_apart"),
    (relay.drain, "_log"),
    (DefaultDialect, "do_commit"),
)
WORDS = 70


def main(backend: str, messages: int = FEW) -> None:
    seconds: dict[str, float] = defaultdict(float)
    for where, name in STEPS:
        setattr(where, name, _timed(getattr(where, name), seconds, name))
    event.listen(Engine, "before_cursor_execute", _begin)
    event.listen(Engine, "after_cursor_execute", lambda *given: _end(seconds, *given))
    with place(backend) as where_to, heap(where_to, messages) as heaped, heaped() as at, log_to_nowhere():
        source, gateway = open_source(at.settings), open_gateway(at.settings)
        seconds.clear()
        started = time.perf_counter()
        Worker(source, gateway, at.settings).run(until_empty=True)
        seconds["all"] = time.perf_counter() - started
        gateway.close()
        source.dispose()
    for name, spent in sorted(seconds.items(), key=lambda one: -one[1]):
        if (cost := spent / messages * 1e6) >= 0.1:
            Printer(as_json=False).say(f"{cost:7.1f}  {name}")


@contextmanager
def log_to_nowhere() -> Iterator[None]:
    """As a relay logs, so that it costs what it costs, but not to be read."""
    with Path(os.devnull).open("w") as nowhere, redirect_stderr(nowhere):
        configure_logs("text")
        yield


def _timed(step: Callable[..., Any], seconds: dict[str, float], name: str) -> Callable[..., Any]:
    def timed(*given: Any, **named: Any) -> Any:
        started = time.perf_counter()
        try:
            return step(*given, **named)
        finally:
            seconds[name] += time.perf_counter() - started

    return timed


def _begin(_connection: object, _cursor: object, _statement: str, _values: object, context: Any, _many: bool) -> None:
    context.began_at = time.perf_counter()


def _end(seconds: dict[str, float], *given: Any) -> None:
    _, _, statement, _, context, _ = given
    seconds[" ".join(statement.split())[:WORDS]] += time.perf_counter() - context.began_at


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
