"""huey: a task an invite in its SqliteHuey, taken and executed by its own `dequeue` and `execute`, one after another.

huey deletes a task as it takes it, before it is executed, so a crash loses the task at hand: it is at most once. It
takes one task at a time.
"""

from huey import SqliteHuey
from mirror import Clock, Job, SqliteMirror, empty_log, read_job, report


def main(job: Job) -> None:
    mirror = SqliteMirror(job.mirror)
    delivered = 0
    huey = SqliteHuey(filename=job.source_path, fsync=True, journal_mode="wal", results=False)

    @huey.task()
    def deliver(payload: bytes) -> None:
        nonlocal delivered
        mirror.write([payload])
        delivered += 1

    # huey has no bulk enqueue: every call is a transaction. It is not timed.
    for payload in job.payloads:
        deliver(payload)

    empty_log(job.source_path)
    clock = Clock(job.limit_seconds)
    while not clock.is_out and (task := huey.dequeue()) is not None:
        huey.execute(task)
    report(delivered, clock.seconds)


main(read_job())
