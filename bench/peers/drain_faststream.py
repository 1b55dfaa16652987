"""faststream-outbox: a standalone subscriber that claims batches, has several workers and deletes in batches.

A worker hands its handler one message at a time, so every message is a transaction at the gateway.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import uvloop
from faststream_outbox import OutboxBroker, make_outbox_table
from mirror import Clock, Job, PostgresMirror, analyze, read_job, report
from sqlalchemy import MetaData
from sqlalchemy.ext.asyncio import create_async_engine

WORKERS = 10
CHUNK = 1_000


async def main(job: Job) -> None:
    metadata = MetaData()
    table = make_outbox_table(metadata, table_name="outbox")
    engine = create_async_engine(job.source.replace("postgresql:", "postgresql+asyncpg:", 1), pool_size=WORKERS + 2)
    acknowledged = 0
    finished = asyncio.Event()

    def count(event: str, _: Mapping[str, object]) -> None:
        nonlocal acknowledged
        acknowledged += event == "acked"
        if acknowledged == len(job.payloads):
            finished.set()

    broker = OutboxBroker(engine, outbox_table=table, metrics_recorder=count, logger=None)
    mirror = await PostgresMirror.open(job.mirror, WORKERS)

    @broker.subscriber(
        "invites",
        max_workers=WORKERS,
        fetch_batch_size=job.batch,
        terminal_flush_batch_size=max(1, job.batch // WORKERS),
        min_fetch_interval=0.01,
        lease_ttl_seconds=300,
    )
    async def deliver(body: dict[str, Any]) -> None:
        await mirror.write_one(body)

    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    for start in range(0, len(job.payloads), CHUNK):
        chunk = [json.loads(payload) for payload in job.payloads[start : start + CHUNK]]
        async with engine.begin() as connection:
            await broker.publish_batch(*chunk, queue="invites", session=connection)

    await analyze(job.source)
    clock = Clock(job.limit_seconds)
    await broker.start()
    with suppress(TimeoutError):
        await asyncio.wait_for(finished.wait(), job.limit_seconds)
    report(acknowledged, clock.seconds)
    await broker.stop()
    await engine.dispose()


uvloop.run(main(read_job()))
