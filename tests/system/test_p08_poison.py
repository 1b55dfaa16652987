"""P8: one bad message harms itself alone, ends as dead with a reason, and can be retried."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from outbox import Outcome, Verdict
from outbox.fence import Prove
from relay.destinations.port import Delivery
from relay.open import open_gateway, open_source
from relay.settings import Settings
from relay.worker import Worker
from tests.conftest import Stores, rows, write
from tests.relay.rig import Around, drain_all, draining, outcomes
from tests.system.processes import FORKSERVER, relay


@dataclass(slots=True)
class Deadly(Around):
    """A gateway in which one key kills the whole process, as a bug in a C library would."""

    poison: str

    def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        if any(message.key == self.poison for message in messages):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner.collect(self.inner.send(messages, prove))


def drain_with_poison(assistant_db: str, gateway: str, poison: str) -> None:
    settings = Settings(assistant_db=assistant_db, gateway=gateway)
    source = open_source(settings)
    Worker(source, Deadly(open_gateway(settings), poison), settings).run(until_empty=True)


def run_until_it_survives(stores: Stores, poison: str) -> int:
    """Starts relays one after the other, as a service manager would; returns how many were killed."""
    for kills in range(20):
        process = FORKSERVER.Process(target=drain_with_poison, args=(stores.source_url, stores.mirror_url, poison))
        process.start()
        process.join(60)
        if process.exitcode == 0:
            return kills
        assert process.exitcode == -signal.SIGKILL
    raise AssertionError("it never survived")


def test_p08_a_message_that_kills_its_worker_ends_dead_after_5_and_all_others_are_delivered(stores: Stores) -> None:
    ids = [stores.create().invite.id for _ in range(9)]
    poison = ids[4]
    kills = run_until_it_survives(stores, poison)
    states = {row["key"]: row for row in stores.messages()}
    dead = states.pop(poison)
    assert (dead["state"], dead["attempts"]) == ("dead", 5)
    assert "relay dead show" in dead["last_error"]
    assert {(row["state"], row["attempts"]) for row in states.values()} == {("delivered", 0)}
    assert kills == 6, "once in an ordinary batch, then five times alone"

    assert relay(stores, "dead", "retry", str(dead["seq"])).code == 0
    assert relay(stores, "run", "--until-empty").code == 0
    assert stores.states() == ["delivered"] * 9
    assert relay(stores, "verify").code == 0


def test_p08_a_poison_message_ends_dead_with_a_reason_while_others_flow_at_once(stores: Stores) -> None:
    first = stores.create().invite.id
    bad = stores.create().invite.id
    write(stores.source, "UPDATE outbox_messages SET payload = '{' WHERE key = :bad", bad=bad)
    last = stores.create().invite.id
    with draining(stores) as drain:
        settled = drain.batch()
    assert outcomes(settled) == [Outcome.DELIVERED, Outcome.REFUSED_FOR_GOOD, Outcome.DELIVERED]
    assert stores.mirrored(first) is not None
    assert stores.mirrored(last) is not None
    assert stores.messages("state = 'dead'")[0]["last_error"].startswith("invalid invite: ")


def test_p08_ten_thousand_retrying_messages_do_not_delay_a_new_one(stores: Stores) -> None:
    stores.create(contact_id="nobody")
    write(
        stores.source,
        """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
        INSERT INTO outbox_messages (topic, key, version, shard, payload, enqueued_at, state, attempts,
                                     available_at, last_error)
        SELECT topic, key || '-' || i, version, i % 64, replace(payload, key, key || '-' || i), enqueued_at,
               'retrying', 3, 0, 'contact missing' FROM n, outbox_messages WHERE seq = 1
        """,
    )
    new = stores.create().invite.id
    with draining(stores) as drain:
        settled = drain.batch()
    assert new in {one.message.key for one in settled if one.verdict.outcome is Outcome.DELIVERED}
    assert len(settled) <= drain.settings.batch_size // 4 + 2
    assert rows(stores.mirror, "SELECT id FROM ingress_invites") == [{"id": new}]


def test_p08_a_key_that_is_stuck_does_not_hold_up_another_invite_of_the_same_contact(stores: Stores) -> None:
    stuck = stores.create().invite.id
    write(stores.source, "UPDATE outbox_messages SET payload = '[]'")
    stores.revoke(stuck)
    other = stores.create().invite.id
    with draining(stores) as drain:
        drain_all(drain)
    assert stores.mirrored(other) is not None
    # The newer, good message of the stuck key closes it, and the bad one is settled with it.
    assert stores.states() == ["superseded", "delivered", "delivered"]
