"""A replay of what waits already enqueues it once, and touching a row is a condition on what was read."""

from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

import assistant_store
from outbox import open_engine
from outbox.message import LARGEST_INTEGER
from outbox.pages import START
from relay.topics import INVITES, Selection
from tests.conftest import Stores, write
from tests.relay.rig import drain_all, draining
from tests.system.processes import relay, running_relay

LATE = {"RELAY_RETRY_FIRST": "1h", "RELAY_RETRY_LONGEST": "1h"}


def test_a_row_whose_current_state_waits_is_not_enqueued_again(stores: Stores) -> None:
    stores.create()
    for _ in range(2):
        ended = relay(stores, "replay", "--all", "--no-wait", "--json")
        assert (ended.code, ended.json) == (0, {"selected": 1, "enqueued": 0, "already_waiting": 1})
    assert stores.states() == ["pending"]
    ended = relay(stores, "replay", "--all", "--json")
    assert (ended.json["enqueued"], ended.json["delivered"], ended.json["repaired"]) == (0, 1, 1)
    assert stores.states() == ["delivered"]


def test_what_is_refused_for_now_does_not_pile_up(stores: Stores) -> None:
    stores.create(contact_id="nobody")
    for _ in range(3):
        ended = relay(stores, "replay", "--all", **LATE)
        assert ended.code == 1
        assert "1 message was refused" in ended.err
        assert "until it does no replay helps" in ended.err
    assert stores.states() == ["retrying"]


def test_what_waits_for_its_next_try_is_tried_at_once(stores: Stores) -> None:
    id_ = stores.create(contact_id="late").invite.id
    assert relay(stores, "run", "--until-empty", **LATE).code == 1
    stores.add_contact("late")
    ended = relay(stores, "replay", "--all", "--json")
    assert (ended.code, ended.json["already_waiting"], ended.json["repaired"]) == (0, 1, 1)
    assert stores.mirrored(id_) is not None


def test_a_replay_waits_for_what_waited_also_where_a_relay_delivers_it(stores: Stores) -> None:
    id_ = stores.create(contact_id="late").invite.id
    with running_relay(stores, **LATE) as worker:
        worker.wait_for("refused_for_now")
        stores.add_contact("late")
        assert relay(stores, "replay", "--all", "--json").json["repaired"] == 1
    assert stores.mirrored(id_) is not None


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE assistant_ingress_invites SET note = 'later', updated_at = updated_at + 1",
        "UPDATE assistant_ingress_invites SET note = 'by hand'",
        "UPDATE outbox_messages SET payload = 'spoilt'",
        "UPDATE outbox_messages SET payload = replace(payload, 'telegram', 'telefone')",
        "UPDATE outbox_messages SET payload = replace(payload, '}', ' }')",
        "UPDATE outbox_messages SET version = version - 1",
        "UPDATE outbox_messages SET state = 'delivered', settled_at = 1",
    ],
)
def test_another_state_that_waits_keeps_no_row_from_being_enqueued(stores: Stores, change: str) -> None:
    stores.create()
    write(stores.source, change)
    assert relay(stores, "replay", "--all", "--no-wait", "--json").json["enqueued"] == 1


def test_a_dead_message_of_the_same_state_keeps_none_from_being_enqueued(stores: Stores) -> None:
    stores.create()
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1")
    ended = relay(stores, "replay", "--all", "--json")
    assert (ended.json["enqueued"], ended.json["repaired"]) == (1, 1)
    assert stores.states() == ["superseded", "delivered"]


def test_touching_raises_updated_at_and_enqueues_what_it_raised_it_to(stores: Stores) -> None:
    invite = stores.create().invite
    for there in (invite.updated_at, invite.updated_at + 10**9):
        with draining(stores) as drain:
            drain_all(drain)
        write(stores.mirror, "UPDATE ingress_invites SET updated_at = :at, note = 'theirs'", at=there)
        ended = relay(stores, "replay", "--id", invite.id, "--touch", "--json")
        assert (ended.code, ended.json["repaired"]) == (0, 1)
        (message,) = stores.messages("seq = (SELECT max(seq) FROM outbox_messages)")
        mirrored = stores.mirrored(invite.id)
        assert mirrored is not None
        assert (mirrored.note, mirrored.updated_at) == (None, message["version"])
        assert message["version"] > there


def test_a_closed_invite_stays_closed_when_it_is_touched(stores: Stores) -> None:
    invite = stores.create().invite
    with draining(stores) as drain:
        drain_all(drain)
    write(stores.mirror, "UPDATE ingress_invites SET status = 'revoked'")
    assert relay(stores, "replay", "--all", "--touch").code == 1
    mirrored = stores.mirrored(invite.id)
    assert mirrored is not None
    assert mirrored.status == "revoked"


def test_a_row_that_no_instant_is_later_than_is_not_touched_and_named(stores: Stores) -> None:
    write(
        stores.source,
        "UPDATE assistant_ingress_invites SET updated_at = :at WHERE id = :id",
        at=LARGEST_INTEGER,
        id=(odd := stores.create().invite.id),
    )
    good = stores.create().invite.id
    ended = relay(stores, "replay", "--all", "--touch", "--json")
    assert (ended.code, ended.json["unrepaired"], ended.json["repaired"]) == (1, 1, 1)
    assert f"invite {odd} cannot be touched: no instant is later" in ended.err
    assert stores.mirrored(good) is not None


@pytest.mark.only("postgresql", because="SQLite lets nobody else write meanwhile")
def test_a_row_that_was_changed_since_it_was_read_is_not_touched(stores: Stores) -> None:
    id_ = stores.create(max_uses=9).invite.id
    daemon = open_engine(stores.source_url)
    used: list[assistant_store.Invite | None] = []

    def use(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("UPDATE assistant_ingress_invites") and not used:
            used.append(stores_of_daemon.use(id_))

    stores_of_daemon = Stores(stores.folder, stores.source_url, stores.mirror_url, daemon, stores.mirror)
    event.listen(stores.source, "before_cursor_execute", use)
    with Session(stores.source) as session, session.begin():
        page = INVITES.replay_page(session, Selection(), place=START, limit=9, above={id_: 2**50})
    event.remove(stores.source, "before_cursor_execute", use)
    daemon.dispose()

    (invite,) = used
    assert (page.overtaken, page.ids) == ([id_], [])
    assert [row["version"] for row in stores.messages("seq > 1")] == [invite and invite.updated_at]
