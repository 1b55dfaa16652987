"""PgQueuer: its queue manager in drain mode, a batch of jobs at a time, each job a task of its own.

"documented": an entrypoint upserts one invite. "batched": the entrypoints that run at the same time share one write.
"""

import asyncio
import json
from datetime import timedelta

import asyncpg
import uvloop
from mirror import Batcher, Clock, Job, PostgresMirror, analyze, read_job, report
from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver
from pgqueuer.domain.types import QueueExecutionMode
from pgqueuer.models import Job as QueuedJob
from pgqueuer.queries import Queries

AT_ONCE = 20
CHUNK = 5_000


async def main(job: Job) -> None:
    connection = await asyncpg.connect(job.source)
    queries = Queries(AsyncpgDriver(connection))
    await queries.install()
    for start in range(0, len(job.payloads), CHUNK):
        chunk = job.payloads[start : start + CHUNK]
        await queries.enqueue(["mirror"] * len(chunk), list(chunk), [0] * len(chunk))
    await analyze(job.source)

    queue = PgQueuer.from_asyncpg_connection(connection)
    mirror = await PostgresMirror.open(job.mirror, 1 if job.variant == "batched" else AT_ONCE)
    batcher = Batcher(mirror)

    @queue.entrypoint("mirror")
    async def deliver(queued: QueuedJob) -> None:
        payload = queued.payload or b""
        if job.variant == "batched":
            await batcher.add(payload)
        else:
            await mirror.write_one(json.loads(payload))

    clock = Clock(job.limit_seconds)
    asyncio.get_running_loop().call_later(job.limit_seconds, queue.shutdown.set)
    # It returns once the last job is logged as successful, which is how PgQueuer acknowledges. The timeout is how
    # long it sleeps when a look finds the queue empty but jobs still at work; it is below the least it allows.
    await queue.qm.run(batch_size=job.batch, mode=QueueExecutionMode.drain, dequeue_timeout=timedelta(milliseconds=1))
    seconds = clock.seconds
    delivered = await connection.fetchval("SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'")
    report(delivered, seconds)


uvloop.run(main(read_job()))
