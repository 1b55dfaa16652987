"""honker: its SQL functions through its loadable extension, a batch claimed and a batch acknowledged at a time.

Not through `honker.open`, which runs at synchronous = NORMAL with no option for another; a connection of one's own with
the extension loaded is as documented and runs at FULL.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mirror import Clock, Job, SqliteMirror, empty_log, read_job, report
from pysqlite3 import dbapi2  # the standard module may be built without extensions

QUEUE, WORKER = "invites", "bench"
PRIORITY, ATTEMPTS, VISIBLE_AFTER = 0, 3, 300  # the library's defaults
# As `honker.open` sets them, but for FULL.
PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "busy_timeout = 5000",
    "cache_size = -32000",
    "temp_store = MEMORY",
    "wal_autocheckpoint = 10000",
)


def main(job: Job) -> None:
    mirror = SqliteMirror(job.mirror)
    connection = open_queue(job.source_path)
    connection.execute("BEGIN")
    for payload in job.payloads:
        enqueue = "SELECT honker_enqueue(?, ?, NULL, NULL, ?, ?, NULL)"
        connection.execute(enqueue, (QUEUE, payload.decode(), PRIORITY, ATTEMPTS)).fetchone()
    connection.execute("COMMIT")
    empty_log(job.source_path)

    delivered = 0
    clock = Clock(job.limit_seconds)
    while not clock.is_out:
        claimed = call(connection, "SELECT honker_claim_batch(?, ?, ?, ?)", QUEUE, WORKER, job.batch, VISIBLE_AFTER)
        messages = json.loads(claimed)
        if not messages:
            break
        mirror.write([message["payload"] for message in messages])
        ids = json.dumps([message["id"] for message in messages])
        delivered += call(connection, "SELECT honker_ack_batch(?, ?)", ids, WORKER)
    report(delivered, clock.seconds)


def open_queue(path: str) -> Any:
    connection = dbapi2.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    package = find_spec("honker")
    if package is None or package.origin is None:
        raise RuntimeError("honker is not installed")
    # By its path rather than `honker.load_extension`: importing the package loads a library of its own as well, which
    # needs glibc 2.38, where the extension makes do with 2.34.
    connection.enable_load_extension(True)
    extension = Path(package.origin).parent / "_lib" / "libhonker_ext.so"
    connection.execute("SELECT load_extension(?, 'sqlite3_honkerext_init')", (str(extension),))
    connection.enable_load_extension(False)
    connection.execute("SELECT honker_bootstrap()")
    return connection


def call(connection: Any, statement: str, *values: object) -> Any:
    """In a transaction of its own, as the library's own methods do it."""
    connection.execute("BEGIN IMMEDIATE")
    found = connection.execute(statement, values).fetchone()[0]
    connection.execute("COMMIT")
    return found


main(read_job())
