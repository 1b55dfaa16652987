"""txoutbox: its Relay over its own storage, round by round (`run_once`), as its documentation has it for cron jobs.

"documented": a call of the publisher upserts one message; on PostgreSQL twenty calls run at a time, SQLite has one
writer. "batched": the calls of one round, all made at once, share one write.
"""

import sqlite3
from datetime import timedelta

import uvloop
from mirror import Batcher, Clock, Job, PostgresMirror, SqliteMirror, analyze, empty_log, read_job, report
from txoutbox import OutboxMessage, Relay, RelayConfig
from txoutbox.adapters.sqlite import SqliteStorage
from txoutbox.protocols import PublishFn, Storage

AT_ONCE = 20
LEASE = timedelta(hours=1)  # past any round, for the library warns of shorter ones


async def main(job: Job) -> None:
    on_sqlite = job.source.startswith("sqlite")
    storage = fill_sqlite(job) if on_sqlite else await fill_postgres(job)
    publish = await sqlite_publisher(job) if on_sqlite else await postgres_publisher(job)
    at_once = job.batch if job.variant == "batched" else AT_ONCE
    relay = Relay(storage, publish, config=RelayConfig(batch_size=job.batch, concurrency=at_once, lease=LEASE))
    delivered = 0
    clock = Clock(job.limit_seconds)
    while not clock.is_out:
        done = await relay.run_once()
        delivered += done.published
        if done.claimed < job.batch:
            break
    report(delivered, clock.seconds)


def fill_sqlite(job: Job) -> Storage:
    # No message has a key, so the library advises against the lock that keeps keys in order.
    storage = SqliteStorage(job.source_path, strict_ordering=False)
    storage.create_schema()
    connection = sqlite3.connect(job.source_path)
    # The library has no option for it and leaves SQLite's own default, which must be FULL.
    if connection.execute("PRAGMA synchronous").fetchone() != (2,):
        raise RuntimeError("this SQLite was built with another default than synchronous = FULL")
    with connection:
        for payload in job.payloads:
            storage.insert(connection, "invite.mirror", payload)
    connection.close()
    empty_log(job.source_path)
    return storage


async def fill_postgres(job: Job) -> Storage:
    from txoutbox.adapters.postgres import PostgresStorage

    storage = await PostgresStorage.connect(job.source, strict_ordering=False)
    await storage.create_schema()
    async with storage.pool.acquire() as connection, connection.transaction():
        for payload in job.payloads:
            await storage.insert(connection, "invite.mirror", payload)
    await analyze(job.source)
    return storage


async def sqlite_publisher(job: Job) -> PublishFn:
    mirror = SqliteMirror(job.mirror)
    if job.variant == "batched":
        return batched(Batcher(mirror))

    async def publish(message: OutboxMessage) -> None:
        mirror.write([message.payload])

    return publish


async def postgres_publisher(job: Job) -> PublishFn:
    if job.variant == "batched":
        return batched(Batcher(await PostgresMirror.open(job.mirror)))
    mirror = await PostgresMirror.open(job.mirror, AT_ONCE)

    async def publish(message: OutboxMessage) -> None:
        await mirror.write_one(message.json())

    return publish


def batched(batcher: Batcher) -> PublishFn:
    async def publish(message: OutboxMessage) -> None:
        await batcher.add(message.payload)

    return publish


uvloop.run(main(read_job()))
