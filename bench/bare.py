"""The shortest way of mirroring at once: woken as a relay is, it reads, upserts and marks, each committed.

A process of its own, as a relay is: python -m bench.bare ASSISTANT_DB GATEWAY. It says when it listens, and runs until
it is ended.
"""

import select
import sys
from pathlib import Path

from sqlalchemy import make_url

from bench.bound import postgresql_batch, raw_postgresql, raw_sqlite, sqlite_batch
from outbox.wakeups.datagram import DatagramSource


def main(assistant_db: str, gateway: str) -> None:
    if assistant_db.startswith("postgresql"):
        _on_postgresql(assistant_db, gateway)
    else:
        _on_sqlite(assistant_db, gateway)


def _on_sqlite(assistant_db: str, gateway: str) -> None:
    source, mirror = raw_sqlite(assistant_db), raw_sqlite(gateway)
    ear = DatagramSource(Path(make_url(assistant_db).database or ""), "bare")
    print("listening", flush=True)
    while True:
        select.select([ear], [], [])
        ear.drain()
        sqlite_batch(source, mirror)


def _on_postgresql(assistant_db: str, gateway: str) -> None:
    source, mirror, ear = raw_postgresql(assistant_db), raw_postgresql(gateway), raw_postgresql(assistant_db)
    ear.execute("LISTEN outbox_messages")
    print("listening", flush=True)
    for _ in ear.notifies():
        postgresql_batch(source, mirror)


main(*sys.argv[1:])
