"""The assistant daemon of the demo and of the benchmarks: a process that only has the library and its own database.

It reads one JSON object a line on standard input and answers each with one line.
"""

import json
import sys
import time
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

import assistant_store
from outbox import open_engine


def main(url: str) -> None:
    """Serves ``{"create": n, "contact_id": c}``, ``{"use": [ids]}`` and ``{"revoke": [ids]}`` until end of file."""
    engine = open_engine(url)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_answer(engine, json.loads(line))) + "\n")
        sys.stdout.flush()


def _answer(engine: Engine, request: dict[str, Any]) -> dict[str, Any]:
    match request:
        case {"create": int(wanted), "contact_id": str(contact_id)}:
            made = [_create(engine, contact_id, request.get("every_seconds", 0.0)) for _ in range(wanted)]
            return {"ids": [one[0] for one in made], "seconds": [one[1] for one in made]}
        case {"use": list(ids)}:
            return {"changed": sum(_use(engine, invite_id) for invite_id in ids)}
        case {"revoke": list(ids)}:
            return {"changed": sum(_revoke(engine, invite_id) for invite_id in ids)}
        case _:
            raise ValueError(f"no such request: {request}")


def _create(engine: Engine, contact_id: str, every_seconds: float) -> tuple[str, float]:
    """One invite, committed; its id and the seconds that took. Paced, so that it does not measure its own backlog."""
    started = time.perf_counter()
    with Session(engine) as session, session.begin():
        created = assistant_store.create_invite(session, source_channel="telegram", contact_id=contact_id)
    took = time.perf_counter() - started
    if every_seconds > took:
        time.sleep(every_seconds - took)
    return created.invite.id, took


def _use(engine: Engine, invite_id: str) -> bool:
    with Session(engine) as session, session.begin():
        return assistant_store.record_invite_use(session, invite_id, external_user_id="u-1") is not None


def _revoke(engine: Engine, invite_id: str) -> bool:
    with Session(engine) as session, session.begin():
        return assistant_store.revoke_invite(session, invite_id) is not None


if __name__ == "__main__":
    main(sys.argv[1])
