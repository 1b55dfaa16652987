"""Two relays, or a relay and somebody else, at one invite of PostgreSQL at the same moment, step by step."""

from typing import Any

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from gateway_store import Mirrored, StoredRowError, mirror_batch
from gateway_store.invites.mirror import Payload
from outbox import open_engine, writing
from tests.conftest import rows, write
from tests.gateway_store.examples import RECORDED, REDEEMED, deliver, payload, stored
from tests.gateway_store.rivals import Rivals
from tests.gateway_store.test_mirror_batch import ids, verdicts

pytestmark = pytest.mark.only("postgresql", because="on SQLite a writer has the whole database to itself")
LATEST = REDEEMED["updatedAt"] + 1


def test_a_use_between_the_merges_read_and_its_write_is_not_lost(mirror: Engine, rivals: Rivals) -> None:
    deliver(mirror, RECORDED)
    with rivals.gate("BEFORE UPDATE ON ingress_invites FOR EACH STATEMENT") as gate:
        first = rivals.held_up(deliver, rivals.first, payload(note="n", updatedAt=LATEST))
        second = rivals.held_up(deliver, rivals.second, REDEEMED)
        gate.open()
        assert first.result(30).status is second.result(30).status is Mirrored.ADVANCED
    row = stored(mirror)
    assert (row.status, row.use_count, row.note, row.updated_at) == ("redeemed", 1, "n", LATEST)


def test_what_another_hand_writes_between_the_merges_read_and_its_write_is_not_lost(
    mirror: Engine, rivals: Rivals
) -> None:
    deliver(mirror, RECORDED)
    with rivals.gate("BEFORE UPDATE ON ingress_invites FOR EACH STATEMENT") as gate:
        first = rivals.held_up(deliver, rivals.first, payload(note="n", updatedAt=LATEST))
        second = rivals.held_up(write, rivals.second, "UPDATE ingress_invites SET status = 'revoked'")
        gate.open()
        first.result(30)
        second.result(30)
    assert (stored(mirror).status, stored(mirror).note) == ("revoked", "n")


@pytest.mark.parametrize(
    ("earlier", "later", "outcome"),
    [(RECORDED, REDEEMED, Mirrored.ADVANCED), (REDEEMED, RECORDED, Mirrored.UNCHANGED)],
)
def test_the_later_of_two_that_add_an_invite_merges_with_the_earlier(
    mirror: Engine, rivals: Rivals, earlier: Any, later: Any, outcome: Mirrored
) -> None:
    with writing(rivals.second) as connection:
        mirror_batch(connection, [earlier])
        second = rivals.held_up(deliver, rivals.second, later)
    assert second.result(30).status is outcome
    assert (stored(mirror).status, stored(mirror).use_count) == ("redeemed", 1)


def test_of_two_batches_that_add_the_same_invite_none_is_refused(mirror: Engine, rivals: Rivals) -> None:
    batch: list[Payload] = [payload(id="a"), REDEEMED, payload(id="b")]
    with writing(rivals.second) as connection:
        mirror_batch(connection, [payload(id="b", status="revoked"), RECORDED])
        second = rivals.held_up(verdicts, rivals.second, batch)
    assert second.result(30) == ["created", "advanced", "unchanged"]
    assert (stored(mirror).status, stored(mirror, "b").status) == ("redeemed", "revoked")


def test_an_invite_that_another_did_not_add_after_all_is_created(mirror: Engine, rivals: Rivals) -> None:
    with Session(rivals.second) as session:
        mirror_batch(session.connection(), [REDEEMED])
        second = rivals.held_up(deliver, rivals.second, RECORDED)
        session.rollback()
    assert second.result(30).status is Mirrored.CREATED
    assert stored(mirror).status == "active"


def test_two_batches_that_add_the_same_invites_in_opposite_order_wait_for_each_other_in_turn(
    mirror: Engine, rivals: Rivals
) -> None:
    with rivals.gate("BEFORE INSERT ON ingress_invites FOR EACH ROW WHEN (new.id = 'b')") as gate:
        first = rivals.held_up(verdicts, rivals.first, [payload(id="a"), payload(id="b")])
        second = rivals.held_up(verdicts, rivals.second, [payload(id="b"), payload(id="a")])
        gate.open()
        assert first.result(30) == ["created", "created"]
        assert second.result(30) == ["unchanged", "unchanged"]
    assert ids(mirror) == ["a", "b"]


@pytest.mark.parametrize("known", [[], ["b"], ["a"]])
def test_a_batch_that_goes_one_by_one_and_another_batch_wait_for_each_other_in_turn(
    mirror: Engine, rivals: Rivals, known: list[str]
) -> None:
    write(mirror, "ALTER TABLE ingress_invites ADD CHECK (max_uses < 100)")
    for invite_id in known:
        deliver(mirror, payload(id=invite_id))
    # All at once do not get so far: the table refuses one of them before.
    with rivals.gate("AFTER INSERT ON ingress_invites FOR EACH STATEMENT") as gate:
        batch: list[Payload] = [REDEEMED | {"id": "b"}, REDEEMED | {"id": "a"}, payload(id="refused", maxUses=100)]
        first = rivals.held_up(verdicts, rivals.first, batch)
        second = rivals.held_up(verdicts, rivals.second, [payload(id="a", note="n"), payload(id="b", note="n")])
        gate.open()
        states = ["advanced" if invite_id in known else "created" for invite_id in "ba"]
        assert first.result(30) == [*states, StoredRowError]
        assert second.result(30) == ["unchanged", "unchanged"]


def test_an_invite_added_deleted_and_added_again_meanwhile_is_merged_with_all_the_same(
    mirror: Engine, rivals: Rivals
) -> None:
    lock_row = text("SELECT id FROM ingress_invites FOR UPDATE")
    with rivals.gate("BEFORE INSERT ON ingress_invites FOR EACH STATEMENT") as gate:
        first = rivals.held_up(deliver, rivals.first, payload(note="n", updatedAt=LATEST))
        deliver(rivals.second, REDEEMED)
        with writing(rivals.second) as connection:
            connection.execute(lock_row)
            gate.open()
            # Its insert has met the row. It goes to read it, and waits.
            rivals.until_waiting_for_a_row()
            gate.close()
            connection.execute(text("DELETE FROM ingress_invites"))
        # It goes to insert again.
        rivals.until_waiting_at_the_gate()
        deliver(rivals.second, REDEEMED)
        gate.open()
        assert first.result(30).status is Mirrored.ADVANCED
    assert (stored(mirror).status, stored(mirror).use_count, stored(mirror).note) == ("redeemed", 1, "n")


def test_an_invite_added_and_deleted_between_the_read_and_the_insert_is_not_opened_again(
    mirror: Engine, rivals: Rivals
) -> None:
    with rivals.gate("BEFORE INSERT ON ingress_invites FOR EACH STATEMENT") as gate:
        first = rivals.held_up(deliver, rivals.first, RECORDED)
        deliver(rivals.second, REDEEMED)
        write(rivals.second, "DELETE FROM ingress_invites")
        gate.open()
        outcome = first.result(30)
    assert (outcome.status, outcome.invite.status) == (Mirrored.CREATED, "redeemed")
    assert stored(mirror) == outcome.invite


@pytest.mark.parametrize("how", ["DELETE FROM ingress_invites", "TRUNCATE ingress_invites"])
def test_an_invite_that_is_being_deleted_is_not_opened_again(mirror: Engine, rivals: Rivals, how: str) -> None:
    deliver(mirror, REDEEMED)
    with writing(rivals.second) as connection:
        connection.exec_driver_sql(how)
        late = rivals.held_up(deliver, rivals.second, RECORDED)
    assert late.result(30).invite.status == "redeemed"
    assert (stored(mirror).status, stored(mirror).use_count) == ("redeemed", 1)


def test_reading_waits_for_no_merge(mirror: Engine, rivals: Rivals) -> None:
    deliver(mirror, RECORDED)
    with writing(rivals.first) as connection:
        mirror_batch(connection, [REDEEMED])
        assert stored(rivals.second).status == "active"


def test_a_lock_that_is_not_had_in_time_is_no_refusal(mirror: Engine, rivals: Rivals) -> None:
    deliver(mirror, RECORDED)
    impatient = open_engine(rivals.url, busy_timeout=0.001)
    with writing(rivals.second) as connection:
        mirror_batch(connection, [REDEEMED])
        with pytest.raises(OperationalError, match="lock timeout"):
            verdicts(impatient, [payload(id="a"), payload(status="revoked")])
    impatient.dispose()
    assert rows(mirror, "SELECT id, status FROM ingress_invites") == [{"id": "rec-16197", "status": "redeemed"}]
