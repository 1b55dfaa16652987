"""huey: a task an invite in its SqliteHuey, taken and executed by its own `dequeue` and `execute`, one after another.

huey deletes a task as it takes it, before it is executed, so a crash loses the task at hand: it is at most once. It
takes one task at a time.
"""

from huey import SqliteHuey
from mirror import Clock, Job, SqliteMirror, read_job, report


def main(job: Job) -> None:
    mirror = SqliteMirror(job.mirror)
    huey = SqliteHuey(filename=job.source_path, fsync=True, journal_mode="wal", results=False)

    @huey.task()
    def deliver(payload: bytes) -> None:
        mirror.write([payload])

    # huey has no bulk enqueue: every call is a transaction. It is not timed.
    for payload in job.payloads:
        deliver(payload)

    delivered = 0
    clock = Clock(job.limit_seconds)
    while not clock.is_out and (task := huey.dequeue()) is not None:
        huey.execute(task)
        delivered += 1
    report(delivered, clock.seconds)


main(read_job())
