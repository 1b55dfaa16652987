"""procrastinate: a job an invite; several workers in one process that stop when the queue is empty (`wait=False`).

A worker fetches one job after another and finishes each by a statement of its own, so several share the commits.
"""

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

import procrastinate
import uvloop
from mirror import Clock, Job, PostgresMirror, analyze, read_job, report

WORKERS = 10
AT_ONCE = 2
CHUNK = 1_000


async def main(job: Job) -> None:
    # A line a job otherwise goes as far as the root logger.
    logging.getLogger("procrastinate").setLevel(logging.WARNING)
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=job.source, max_size=2 * WORKERS))
    mirror = await PostgresMirror.open(job.mirror, WORKERS * AT_ONCE)

    @app.task(queue="mirror")
    async def deliver(invite: dict[str, Any]) -> None:
        await mirror.write_one(invite)

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        for start in range(0, len(job.payloads), CHUNK):
            chunk = job.payloads[start : start + CHUNK]
            await deliver.batch_defer_async(*({"invite": json.loads(payload)} for payload in chunk))
        await analyze(job.source)
        clock = Clock(job.limit_seconds)
        options = {"wait": False, "listen_notify": False, "install_signal_handlers": False}
        workers = [app.run_worker_async(queues=["mirror"], concurrency=AT_ONCE, **options) for _ in range(WORKERS)]
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*workers), job.limit_seconds)
        seconds = clock.seconds
        counts = await app.connector.execute_query_one_async(
            "SELECT count(*) AS delivered FROM procrastinate_jobs WHERE status = 'succeeded'"
        )
    report(counts["delivered"], seconds)


uvloop.run(main(read_job()))
