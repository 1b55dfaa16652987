"""From the commit of an invite to the moment another process can read it at the gateway, at 20 invites a second."""

import statistics
import threading
import time

from sqlalchemy import Connection, text
from sqlalchemy.orm import Session

import assistant_store
from bench.stage import CONTACT, Stage, bare_commit, relay, stage
from outbox import read_only

INVITES = 300
EVERY_SECONDS = 0.05
LOOK_EVERY_SECONDS = 0.0002


def measure() -> dict[str, str]:
    """p50 and p99 over all invites, beside the bare commits that cannot be left out: one in each store, fsync on."""
    with stage() as at:
        commits = [bare_commit(at) for _ in range(INVITES)]
        with relay(at):
            seconds = [one(at) for _ in range(INVITES)]
    cut = statistics.quantiles(seconds, n=100)
    bare = statistics.median(commits)
    return {
        "commit to mirrored at 20/s: p50 / p99": f"{cut[49] * 1000:.2f} / {cut[98] * 1000:.2f} ms",
        "one bare commit to the same disk, p50": f"{bare * 1000:.2f} ms; mirrored is {cut[49] / bare:.1f} times that",
    }


def one(at: Stage) -> float:
    with Session(at.source) as session, session.begin():
        invite = assistant_store.create_invite(session, source_channel="telegram", contact_id=CONTACT).invite
    committed = time.perf_counter()
    with read_only(at.mirror).connect() as connection:
        while not _is_mirrored(connection, invite.id):
            threading.Event().wait(LOOK_EVERY_SECONDS)
    took = time.perf_counter() - committed
    threading.Event().wait(max(0.0, EVERY_SECONDS - took))
    return took


def _is_mirrored(connection: Connection, invite_id: str) -> bool:
    with connection.begin():
        found = connection.execute(text("SELECT 1 FROM ingress_invites WHERE id = :id"), {"id": invite_id})
        return found.scalar() is not None
