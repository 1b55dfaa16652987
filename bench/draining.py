"""How fast a relay drains a heap of messages, beside the shortest hand-written loop over the same tables."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from sqlalchemy import insert
from sqlalchemy.orm import Session

import assistant_store
from assistant_store.invite import COLUMNS, INVITES, payload_of
from assistant_store.secret import hash_secret, new_id, new_token
from bench.stage import CONTACT, Stage, stage
from outbox import Origin, reading, writing
from outbox.enqueue import enqueue_many
from relay.open import open_gateway, open_source
from relay.worker import Worker

MESSAGES = 20_000
ROUNDS = 5
BATCH = 500


def measure() -> dict[str, str]:
    """Messages a second, median of interleaved rounds, and the median of each round's ratio."""
    ours, bare = [], []
    for _ in range(ROUNDS):
        with stage() as at:
            fill(at, MESSAGES)
            bare.append(MESSAGES / _seconds(lambda: _bare_loop(at)))
        with stage() as at:
            fill(at, MESSAGES)
            ours.append(MESSAGES / _seconds(lambda: drain(at, at.settings.gateway)))
            must_be_drained(at, MESSAGES)
    ratio = statistics.median(one / other for one, other in zip(ours, bare, strict=True))
    rate = statistics.median(ours)
    return {
        f"drain of {MESSAGES} waiting messages": f"{rate:,.0f}/s, ratio to the bare loop {ratio:.2f}",
        "the bare loop: read, upsert, update; no lease, no validation, no merge": f"{statistics.median(bare):,.0f}/s",
    }


def fill(at: Stage, count: int) -> None:
    """Invites with random tokens and their messages, all pending."""
    with Session(at.source) as session, session.begin():
        first = assistant_store.create_invite(session, source_channel="telegram", contact_id=CONTACT).invite
    for start in range(1, count, 5_000):
        invites = [
            replace(first, id=new_id(first.created_at), token_hash=hash_secret(new_token()))
            for _ in range(min(5_000, count - start))
        ]
        with Session(at.source) as session, session.begin():
            session.execute(insert(INVITES), [asdict(invite) for invite in invites])
            rows = [(invite.id, invite.updated_at, payload_of(invite)) for invite in invites]
            enqueue_many(session, topic="invite.mirror", rows=rows, origin=Origin.LIVE)


def drain(at: Stage, gateway_url: str) -> None:
    """What `relay run --until-empty` does, in this process."""
    settings = at.settings.model_copy(update={"gateway": gateway_url})
    source, gateway = open_source(settings), open_gateway(settings)
    Worker(source, gateway, settings).run(until_empty=True)
    gateway.close()
    source.dispose()


def _bare_loop(at: Stage) -> None:
    columns = ", ".join(COLUMNS)
    places = ", ".join("?" for _ in COLUMNS)
    updates = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "id")
    upsert = f"INSERT INTO ingress_invites ({columns}) VALUES ({places}) ON CONFLICT (id) DO UPDATE SET {updates}"
    keys = list(json.loads(_first_payload(at)))
    while True:
        with reading(at.source) as connection:
            batch = connection.exec_driver_sql(
                f"SELECT seq, payload FROM outbox_messages WHERE state = 'pending' ORDER BY seq LIMIT {BATCH}"
            ).all()
        if not batch:
            return
        with writing(at.mirror) as connection:
            rows = [json.loads(payload) for _, payload in batch]
            connection.exec_driver_sql(upsert, [tuple(row[key] for key in keys) for row in rows])
        with writing(at.source) as connection:
            connection.exec_driver_sql(
                "UPDATE outbox_messages SET state = 'delivered', settled_at = 0 WHERE seq = ?",
                [(row[0],) for row in batch],
            )


def _first_payload(at: Stage) -> str:
    with reading(at.source) as connection:
        return str(connection.exec_driver_sql("SELECT payload FROM outbox_messages ORDER BY seq LIMIT 1").scalar_one())


def must_be_drained(at: Stage, wanted: int) -> None:
    with reading(at.mirror) as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM ingress_invites").scalar_one()
    if found != wanted:
        raise RuntimeError(f"{found} of {wanted} invites arrived")


def _seconds(work: Callable[[], None]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
