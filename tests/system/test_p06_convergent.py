"""P6: whatever the order, the duplicates and the number of relays, both stores agree once the outbox is drained."""

import json
import random
import time
from datetime import timedelta

from sqlalchemy.orm import Session

import assistant_store
from outbox import open_engine
from relay.replay import enqueue_selected
from relay.topics import Selection
from tests.conftest import Stores, allowed, message_of, rows
from tests.relay.rig import answers, drain_all, draining, gateway_of
from tests.system.processes import DEADLINE_SECONDS, FORKSERVER, relay, start_relay

DAEMONS, RELAYS, CHANGES = 2, 3, 150


def change_at_random(url: str, seed: int) -> None:
    """One daemon: creates, uses, revokes and expires; also invites of the other daemon, so both change one key."""
    choose = random.Random(seed)  # noqa: S311 - no secret, and repeatable
    engine = open_engine(url)
    for number in range(CHANGES):
        with Session(engine) as session, session.begin():
            known = assistant_store.list_invites(session, status="active")
            if not known or choose.random() < 0.4:
                assistant_store.create_invite(
                    session,
                    source_channel=choose.choice(["telegram", "sms"]),
                    contact_id="co-1",
                    max_uses=choose.randint(1, 3),
                    expires_in=timedelta(days=choose.randint(1, 9)),
                )
                continue
            invite = choose.choice(known)
            if choose.random() < 0.6:
                assistant_store.record_invite_use(session, invite.id, external_user_id=f"user-{number}")
            elif choose.random() < 0.5:
                assistant_store.revoke_invite(session, invite.id)
            else:
                assistant_store.expire_invite(session, invite.id)
    engine.dispose()


def test_p06_several_relays_and_daemons_at_once_end_in_agreement_and_settle_each_message_once(stores: Stores) -> None:
    daemons = [FORKSERVER.Process(target=change_at_random, args=(stores.source_url, seed)) for seed in range(DAEMONS)]
    relays = [start_relay(stores, RELAY_BATCH_SIZE="7", RELAY_LEASE="6") for _ in range(RELAYS)]
    for worker in relays:
        worker.wait_for("started")
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(rows(stores.source, "SELECT DISTINCT owner FROM outbox_leases")) < RELAYS:
        assert time.monotonic() < deadline, "they never shared the shards"
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.join(60)
    last = relay(stores, "run", "--until-empty", RELAY_LOG_FORMAT="json")
    for worker in relays:
        with worker:
            assert worker.terminate() == 0

    assert last.code == 0
    assert [daemon.exitcode for daemon in daemons] == [0] * DAEMONS
    assert set(stores.states()) == {"delivered", "superseded"}
    assert relay(stores, "verify").code == 0
    log = [json.loads(line) for line in last.err.splitlines()] + [line for worker in relays for line in worker.seen]
    settled = sum(line["count"] for line in log if line["event"] == "delivered")
    assert settled == stores.states().count("delivered"), "two relays settled the same message"
    assert sum(bool(worker.events("delivered")) for worker in relays) > 1, "only one of them delivered"


def test_p06_messages_delivered_in_any_order_and_several_times_end_in_the_same_state(stores: Stores) -> None:
    choose = random.Random(6)  # noqa: S311 - no secret, and repeatable
    for _ in range(8):
        invite = stores.create(max_uses=3).invite
        stores.use(invite.id, external_user_id="first")
        stores.use(invite.id, external_user_id="second")
        stores.revoke(invite.id)
    messages = [message_of(row) for row in stores.messages()] * 3
    choose.shuffle(messages)
    with gateway_of(stores) as gateway:
        for start in range(0, len(messages), 5):
            answers(gateway, messages[start : start + 5], allowed)
    ours = rows(stores.source, "SELECT * FROM assistant_ingress_invites ORDER BY id")
    assert ours == rows(stores.mirror, "SELECT * FROM ingress_invites ORDER BY id")


def test_p06_a_replay_of_all_rows_after_the_drain_changes_nothing(stores: Stores) -> None:
    for _ in range(5):
        stores.use(stores.create(max_uses=2).invite.id)
    with draining(stores) as drain:
        drain_all(drain)
        before = rows(stores.mirror, "SELECT * FROM ingress_invites ORDER BY id")
        enqueue_selected(stores.source, Selection(), lambda _: None)
        drain_all(drain)
    assert rows(stores.mirror, "SELECT * FROM ingress_invites ORDER BY id") == before
    assert set(stores.states()) == {"delivered", "superseded"}
