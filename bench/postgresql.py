"""Both stores on PostgreSQL: how fast one, two and four relays drain, how late an invite is, what a wake-up costs."""

import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psycopg
from sqlalchemy import make_url
from sqlalchemy.orm import Session

import assistant_store
from assistant_store.invite import COLUMNS, TYPES
from bench.draining import BATCH, fill, must_be_drained
from bench.mirroring import INVITES, one
from bench.serving import cuts
from bench.stage import CONTACT, Stage, relay, stage
from outbox import open_engine, reading

MESSAGES = 40_000
ROUNDS = 3
RELAYS = (1, 2, 4)
COMMITS = 400

_CAMEL = ", ".join(
    f'"{first}{"".join(word.capitalize() for word in rest)}" {TYPES[name]}'
    for name in COLUMNS
    for first, *rest in [name.split("_")]
)
_UPSERT = (
    f"INSERT INTO ingress_invites ({', '.join(COLUMNS)}) SELECT r.* FROM json_to_recordset(%s) AS r ({_CAMEL})"
    f" ON CONFLICT (id) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in COLUMNS if name != 'id')}"
)


def measure() -> dict[str, str]:
    rates: dict[int, list[float]] = {count: [] for count in RELAYS}
    bare: list[float] = []
    for _ in range(ROUNDS):
        with stage("postgresql") as at:
            fill(at, MESSAGES)
            bare.append(_bare_loop(at))
            must_be_drained(at, MESSAGES)
        for count in RELAYS:
            with stage("postgresql") as at:
                fill(at, MESSAGES)
                rates[count].append(_drained_by(at, count))
                must_be_drained(at, MESSAGES)
    figures = {
        f"PostgreSQL, drain of {MESSAGES} by {count}": (
            f"{statistics.median(rates[count]):,.0f}/s, ratio to the bare loop "
            f"{statistics.median(ours / other for ours, other in zip(rates[count], bare, strict=True)):.2f}"
        )
        for count in RELAYS
    }
    figures["PostgreSQL, the bare loop"] = f"{statistics.median(bare):,.0f}/s"
    with stage("postgresql") as at:
        with relay(at):
            figures["PostgreSQL, commit to mirrored at 20/s: p50 / p99"] = cuts([one(at) for _ in range(INVITES)])
        with _bare_listener(at):
            figures["PostgreSQL, the same by a bare LISTEN, read, upsert"] = cuts([one(at) for _ in range(INVITES)])
    return figures | _wake_ups()


def _drained_by(at: Stage, count: int) -> float:
    """Messages a second between the first and the last tenth, by the instants at which they were settled."""
    with ExitStack() as stack:
        for number in range(count):
            stack.enter_context(relay(at, number))
        while _waiting(at):
            threading.Event().wait(0.1)
    with reading(at.source) as connection:
        first, last = connection.exec_driver_sql(
            "SELECT percentile_disc(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY settled_at) FROM outbox_messages"
        ).scalar_one()
    return float(0.8 * MESSAGES / ((last - first) / 1000))


def _waiting(at: Stage) -> bool:
    with reading(at.source) as connection:
        return bool(
            connection.exec_driver_sql(
                "SELECT EXISTS (SELECT 1 FROM outbox_messages WHERE state = 'pending')"
            ).scalar_one()
        )


def _raw(url: str) -> psycopg.Connection:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(), autocommit=True)


def _bare_loop(at: Stage) -> float:
    """One upsert and one update a batch; no lease, no validation, no merge. Messages a second."""
    with _raw(at.settings.assistant_db) as source, _raw(at.settings.gateway) as mirror:
        started = time.perf_counter()
        while _bare_batch(source, mirror):
            pass
        return MESSAGES / (time.perf_counter() - started)


def _bare_batch(source: psycopg.Connection, mirror: psycopg.Connection) -> int:
    batch = source.execute(
        f"SELECT seq, payload FROM outbox_messages WHERE state = 'pending' ORDER BY origin, seq LIMIT {BATCH}"
    ).fetchall()
    if batch:
        mirror.execute(_UPSERT, (f"[{','.join(payload for _, payload in batch)}]",))
        source.execute(
            "UPDATE outbox_messages SET state = 'delivered', settled_at = 0 WHERE seq = ANY(%s)",
            ([seq for seq, _ in batch],),
        )
    return len(batch)


@contextmanager
def _bare_listener(at: Stage) -> Iterator[None]:
    """What no relay on PostgreSQL can do without: woken, it reads, upserts and updates."""
    listening, stop = threading.Event(), threading.Event()

    def listen() -> None:
        with (
            _raw(at.settings.assistant_db) as ear,
            _raw(at.settings.assistant_db) as source,
            _raw(at.settings.gateway) as mirror,
        ):
            ear.execute("LISTEN outbox_messages")
            listening.set()
            while not stop.is_set():
                for _ in ear.notifies(timeout=0.1, stop_after=1):
                    _bare_batch(source, mirror)

    thread = threading.Thread(target=listen)
    thread.start()
    listening.wait(10)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _wake_ups() -> dict[str, str]:
    """`create_invite` with its NOTIFY and without, in turns, nobody listening."""
    seconds: dict[bool, list[float]] = {True: [], False: []}
    with stage("postgresql") as at:
        engines = {notify: open_engine(at.settings.assistant_db, notify=notify) for notify in seconds}
        for _ in range(COMMITS):
            for notify, engine in engines.items():
                started = time.perf_counter()
                with Session(engine) as session, session.begin():
                    assistant_store.create_invite(session, source_channel="telegram", contact_id=CONTACT)
                seconds[notify].append(time.perf_counter() - started)
        for engine in engines.values():
            engine.dispose()
    return {
        "PostgreSQL, create_invite: p50 / p99": cuts(seconds[True]),
        "PostgreSQL, create_invite without NOTIFY: p50 / p99": cuts(seconds[False]),
    }
