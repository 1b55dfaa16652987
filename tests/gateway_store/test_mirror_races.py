"""Real processes that mirror, and delete, the same invites at the same moment: no refusal, no step back, no orphan."""

import os
import random

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import ContactMissingError, MirrorOutcome, mirror_batch, upsert_contact
from outbox import open_engine
from tests.conftest import rows, write
from tests.gateway_store.examples import RECORDED, REDEEMED, deliver, payload
from tests.outbox.processes import run_together

IDS = [f"inv-{number:03}" for number in range(400)]
ORPHANS = "SELECT i.id FROM ingress_invites AS i LEFT JOIN contacts AS c ON c.id = i.contact_id WHERE c.id IS NULL"


def mirror_each(url: str) -> None:
    """Every state of every invite, one by one; the states of each in an order of this process's own."""
    engine, chance = open_engine(url, busy_timeout=60), random.Random(os.getpid())  # noqa: S311 - no secret
    for invite_id in IDS:
        for state in chance.sample([RECORDED, REDEEMED], 2):
            deliver(engine, state | {"id": invite_id})
    engine.dispose()


def mirror_in_batches(url: str) -> None:
    """Every state of fifty invites at once, in an order of this process's own."""
    engine, chance = open_engine(url, busy_timeout=60), random.Random(os.getpid())  # noqa: S311 - no secret
    for first in range(0, len(IDS), 50):
        batch = [state | {"id": invite_id} for invite_id in IDS[first : first + 50] for state in (RECORDED, REDEEMED)]
        with Session(engine) as session, session.begin():
            results = mirror_batch(session.connection(), chance.sample(batch, len(batch)))
        assert all(isinstance(result, MirrorOutcome) for result in results), results
    engine.dispose()


@pytest.mark.parametrize("work", [mirror_each, mirror_in_batches])
def test_processes_that_mirror_the_same_new_invites_at_once_refuse_none_and_end_with_the_last_state(
    mirror: Engine, mirror_url: str, work: object
) -> None:
    assert callable(work)
    run_together(3, work, mirror_url)

    found = rows(mirror, "SELECT id, status, use_count FROM ingress_invites ORDER BY id")
    assert found == [{"id": invite_id, "status": "redeemed", "use_count": 1} for invite_id in IDS]


def mirror_and_delete(url: str) -> None:
    """Contacts come and go, and with them their invites, of which this process mirrors an old state again and again."""
    engine, chance = open_engine(url, busy_timeout=60), random.Random(os.getpid())  # noqa: S311 - no secret
    for _ in range(60):
        number = chance.randrange(3)
        if chance.random() < 0.4:
            write(engine, f"DELETE FROM contacts WHERE id = 'co-{number}'")
        with Session(engine) as session, session.begin():
            upsert_contact(session, id=f"co-{number}", display_name="Ada")
        try:
            deliver(engine, payload(id=f"inv-{number}", contactId=f"co-{number}"))
        except ContactMissingError:
            continue
    engine.dispose()


def test_invites_closed_once_stay_closed_however_often_their_contacts_are_deleted_meanwhile(
    mirror: Engine, mirror_url: str
) -> None:
    for number in range(3):
        with Session(mirror) as session, session.begin():
            upsert_contact(session, id=f"co-{number}", display_name="Ada")
        deliver(mirror, REDEEMED | {"id": f"inv-{number}", "contactId": f"co-{number}"})

    run_together(3, mirror_and_delete, mirror_url)

    assert rows(mirror, ORPHANS) == []
    assert rows(mirror, "SELECT id FROM ingress_invites WHERE status <> 'redeemed'") == []
    assert len(rows(mirror, "SELECT id FROM ingress_invites_closed")) == 3
