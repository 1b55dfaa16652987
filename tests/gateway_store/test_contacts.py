"""The contacts to which every invite refers."""

import pytest
from freezegun import freeze_time
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import Contact, mirror_create, upsert_contact
from tests.conftest import rows, write
from tests.gateway_store.examples import deliver, payload

NOON = 1795608000000


def test_a_new_contact_is_added(mirror: Engine) -> None:
    with freeze_time("2026-11-25T12:00:00Z"), Session(mirror) as session, session.begin():
        added = upsert_contact(session, id="co-2", display_name="Grace", principal_id="p-1")
    assert added == Contact("co-2", "Grace", "contact", "p-1", NOON, NOON)
    assert rows(mirror, "SELECT * FROM contacts WHERE id = 'co-2'") == [
        {
            "id": "co-2",
            "display_name": "Grace",
            "role": "contact",
            "principal_id": "p-1",
            "created_at": NOON,
            "updated_at": NOON,
        }
    ]


def test_a_known_contact_is_brought_up_to_date_and_keeps_its_birthday(mirror: Engine) -> None:
    with freeze_time("2026-11-25T12:00:00Z"), Session(mirror) as session, session.begin():
        upsert_contact(session, id="co-2", display_name="Grace", principal_id="p-1")
    with freeze_time("2026-11-25T12:00:01Z"), Session(mirror) as session, session.begin():
        changed = upsert_contact(session, id="co-2", display_name="Grace H.", role="guardian")
    assert changed == Contact("co-2", "Grace H.", "guardian", None, NOON, NOON + 1_000)
    assert rows(mirror, "SELECT count(*) AS n FROM contacts") == [{"n": 2}]


def test_updating_a_contact_keeps_its_invites(mirror: Engine) -> None:
    deliver(mirror, payload())
    with Session(mirror) as session, session.begin():
        upsert_contact(session, id="co-1", display_name="Another name")
    assert rows(mirror, "SELECT id FROM ingress_invites") == [{"id": "rec-16197"}]


def test_a_contact_is_not_committed_for_the_caller(mirror: Engine) -> None:
    with Session(mirror) as session:
        upsert_contact(session, id="co-2", display_name="Grace")
        session.rollback()
    assert rows(mirror, "SELECT id FROM contacts") == [{"id": "co-1"}]


def test_a_contact_and_its_invite_may_arrive_in_one_transaction(mirror: Engine) -> None:
    with Session(mirror) as session, session.begin():
        upsert_contact(session, id="co-2", display_name="Grace")
        mirror_create(session, payload(contactId="co-2"))
    assert rows(mirror, "SELECT contact_id FROM ingress_invites") == [{"contact_id": "co-2"}]


@pytest.mark.parametrize("deleted", ["co-1", "co-2"])
def test_deleting_a_contact_deletes_its_invites_and_no_others(mirror: Engine, deleted: str) -> None:
    with Session(mirror) as session, session.begin():
        upsert_contact(session, id="co-2", display_name="Grace")
    for contact in ("co-1", "co-2"):
        deliver(mirror, payload(id=f"of {contact}", contactId=contact))
    write(mirror, "DELETE FROM contacts WHERE id = :id", id=deleted)
    (left,) = {"co-1", "co-2"} - {deleted}
    assert rows(mirror, "SELECT id FROM ingress_invites") == [{"id": f"of {left}"}]
