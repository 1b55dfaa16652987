"""A million messages through PostgreSQL while somebody holds an old snapshot, so that nothing can be vacuumed."""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

from bench.figure import Figure, Findings
from bench.heap import must_be_drained
from bench.stage import CONTACT, Stage, stage
from outbox import reading, writing
from relay.open import open_gateway, open_source
from relay.worker import Worker

MESSAGES = 1_000_000
_READ = "m.state = 'pending' AND (m.origin, m.seq) >= ("

_FILL = f"""
    INSERT INTO outbox_messages (topic, key, version, shard, payload, enqueued_at)
    SELECT 'invite.mirror', lpad(n::text, 12, '0'), 1, mod(n, 64), json_build_object(
        'id', lpad(n::text, 12, '0'), 'sourceChannel', 'telegram', 'tokenHash', encode(sha256(n::text::bytea), 'hex'),
        'inviteCodeHash', encode(sha256(('c' || n)::bytea), 'hex'), 'maxUses', 1, 'useCount', 0, 'expiresAt', 1,
        'status', 'active', 'contactId', '{CONTACT}', 'createdAt', 1, 'updatedAt', 1), 1
    FROM generate_series(1, {{count}}) AS n
"""


def measure(count: int = MESSAGES) -> Findings:
    """The time of a read of pending messages in the first and in the last tenth, and what was left behind."""
    reads: list[float] = []
    with stage("postgresql") as at:
        with writing(at.source) as connection:
            connection.exec_driver_sql(_FILL.format(count=count))
        with reading(at.source) as old_snapshot, _timed(reads):
            old_snapshot.exec_driver_sql("SELECT count(*) FROM outbox_leases").scalar_one()
            started = time.perf_counter()
            _drain(at)
            rate = count / (time.perf_counter() - started)
        must_be_drained(at, count)
        left = _left_behind(at)
    if not reads:
        raise RuntimeError("no read of pending messages was seen: its statement has changed")
    tenth = max(1, len(reads) // 10)
    first, last = statistics.median(reads[:tenth]), statistics.median(reads[-tenth:])
    return Findings(
        [
            Figure(f"PostgreSQL, {count:,} messages beside an old snapshot", rate, "/s", beside=f"left behind: {left}"),
            Figure("the read of a batch in the first tenth", first * 1000, "ms"),
            Figure("the same in the last tenth", last * 1000, "ms"),
        ]
    )


def _drain(at: Stage) -> None:
    source, gateway = open_source(at.settings), open_gateway(at.settings)
    Worker(source, gateway, at.settings).run(until_empty=True)
    gateway.close()
    source.dispose()


@contextmanager
def _timed(seconds: list[float]) -> Iterator[None]:
    """Notes how long each read of pending messages takes at the server."""
    started: list[float] = []

    def before(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if _READ in statement:
            started.append(time.perf_counter())

    def after(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if _READ in statement:
            seconds.append(time.perf_counter() - started.pop())

    event.listen(Engine, "before_cursor_execute", before)
    event.listen(Engine, "after_cursor_execute", after)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", before)
        event.remove(Engine, "after_cursor_execute", after)


def _left_behind(at: Stage) -> str:
    with reading(at.source) as connection:
        dead, size = connection.exec_driver_sql(
            """
            SELECT n_dead_tup, pg_size_pretty(pg_total_relation_size(relid)) FROM pg_stat_user_tables
            WHERE relname = 'outbox_messages'
            """
        ).one()
    return f"{dead:,} dead rows, one a message at most; {size} with the indexes"
