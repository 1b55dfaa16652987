"""An invite mirrored while its contact is being deleted, on PostgreSQL, step by step: contacts first, then invites."""

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import ContactMissingError, Mirrored, StoredRowError, mirror_batch, mirror_create, upsert_contact
from gateway_store.invites.mirror import Payload
from outbox import writing
from tests.conftest import rows, write
from tests.gateway_store.examples import RECORDED, REDEEMED, deliver, payload
from tests.gateway_store.rivals import Rivals
from tests.gateway_store.test_mirror_batch import ids, verdicts

pytestmark = pytest.mark.only("postgresql", because="on SQLite a writer has the whole database to itself")
GONE = "DELETE FROM contacts WHERE id = 'co-1'"


@pytest.mark.parametrize("how", [GONE, "TRUNCATE contacts CASCADE"])
def test_an_invite_whose_contact_is_being_deleted_waits_and_is_refused_for_now(
    mirror: Engine, rivals: Rivals, how: str
) -> None:
    with writing(rivals.second) as connection:
        connection.exec_driver_sql(how)
        waiting = rivals.held_up(deliver, rivals.second, RECORDED)
    with pytest.raises(ContactMissingError):
        waiting.result(30)
    assert ids(mirror) == []


def test_an_invite_whose_contact_is_not_deleted_after_all_is_created(mirror: Engine, rivals: Rivals) -> None:
    with Session(rivals.second) as session:
        session.connection().exec_driver_sql(GONE)
        waiting = rivals.held_up(deliver, rivals.second, RECORDED)
        session.rollback()
    assert waiting.result(30).status is Mirrored.CREATED


@pytest.mark.parametrize("how", [GONE, "TRUNCATE contacts CASCADE"])
def test_a_deletion_that_waits_for_a_mirrored_invite_takes_it_along_and_remembers_it(
    mirror: Engine, rivals: Rivals, how: str
) -> None:
    with writing(rivals.second) as connection:
        mirror_batch(connection, [REDEEMED])
        deletion = rivals.held_up(write, rivals.second, how)
    deletion.result(30)
    assert ids(mirror) == []
    assert rows(mirror, "SELECT status, use_count FROM ingress_invites_closed") == [
        {"status": "redeemed", "use_count": 1}
    ]


@pytest.mark.parametrize("state", [RECORDED, REDEEMED], ids=["same state", "later state"])
def test_a_deletion_on_its_way_to_the_invites_and_a_merge_do_not_wait_for_each_other(
    mirror: Engine, rivals: Rivals, state: dict[str, object]
) -> None:
    deliver(mirror, RECORDED)
    with rivals.gate("AFTER DELETE ON contacts FOR EACH ROW") as gate:
        deletion = rivals.held_up(write, rivals.first, GONE)
        merge = rivals.held_up(deliver, rivals.second, state)
        gate.open()
        deletion.result(30)
        with pytest.raises(ContactMissingError):
            merge.result(30)
    assert ids(mirror) == []


def test_a_deletion_and_a_batch_that_goes_one_by_one_do_not_wait_for_each_other(mirror: Engine, rivals: Rivals) -> None:
    write(mirror, "ALTER TABLE ingress_invites ADD CHECK (max_uses < 100)")
    with Session(mirror) as session, session.begin():
        upsert_contact(session, id="co-2", display_name="Grace")
    deliver(mirror, payload(id="b", contactId="co-2"))
    # All at once do not get so far: the table refuses one of them before.
    with rivals.gate("AFTER INSERT ON ingress_invites FOR EACH STATEMENT") as gate:
        batch: list[Payload] = [payload(id="a"), REDEEMED | {"id": "b", "contactId": "co-2"}]
        merge = rivals.held_up(verdicts, rivals.first, [*batch, payload(id="refused", maxUses=100)])
        deletion = rivals.held_up(write, rivals.second, "DELETE FROM contacts WHERE id = 'co-2'")
        gate.open()
        assert merge.result(30) == ["created", "advanced", StoredRowError]
        deletion.result(30)
    assert ids(mirror) == ["a"]


def test_a_known_contact_may_change_its_name_while_an_invite_refers_to_it(mirror: Engine, rivals: Rivals) -> None:
    with Session(rivals.second) as session, session.begin():
        mirror_create(session, RECORDED)
        write(mirror, "UPDATE contacts SET display_name = 'Eve'")
    assert rows(mirror, "SELECT display_name FROM contacts") == [{"display_name": "Eve"}]
