"""A message whose row refuses to be settled is left alone, and holds up neither the others nor a command."""

from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from outbox import Outcome
from relay import replay
from relay.apart import MOST, SetApart
from relay.errors import UnrepairedError
from relay.replay import Replayed, see_through
from tests.conftest import Stores, message_of, rows, write
from tests.relay.rig import Meddling, create_many, drain_all, draining, gateway_of, settings_of
from tests.system.processes import relay, running_relay


def refusing(stores: Stores, key: str) -> None:
    """A trigger of somebody else's that lets nobody change the message."""
    on_update(stores, key, "SELECT RAISE(ABORT, 'hands off')", "RAISE EXCEPTION 'hands off'")


def ignoring(stores: Stores, key: str) -> None:
    """One that drops each change without a word, as row security can."""
    on_update(stores, key, "SELECT RAISE(IGNORE)", "RETURN NULL")


def on_update(stores: Stores, key: str, on_sqlite: str, on_postgresql: str) -> None:
    when = f"BEFORE UPDATE ON outbox_messages FOR EACH ROW WHEN (OLD.key = '{key}')"
    if stores.source.dialect.name == "sqlite":
        write(stores.source, f"CREATE TRIGGER guard {when} BEGIN {on_sqlite}; END")
        return
    body = f"BEGIN {on_postgresql}; RETURN NEW; END"
    write(
        stores.source,
        f"CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS '{body.replace(chr(39), chr(39) * 2)}'",
    )
    write(stores.source, f"CREATE TRIGGER guard {when} EXECUTE FUNCTION guard()")


BOTH = pytest.mark.parametrize("guard", [refusing, ignoring])
Guard = Callable[[Stores, str], None]


@BOTH
@pytest.mark.parametrize("contact", ["co-1", "nobody"])
def test_p08_others_are_settled_and_it_is_delivered_twice_at_most_and_named_once(
    stores: Stores, guard: Guard, contact: str
) -> None:
    ids = create_many(stores, 5)
    stuck = stores.create(contact_id=contact).invite.id
    guard(stores, stuck)
    ids += create_many(stores, 5)
    with capture_logs() as logs, gateway_of(stores) as inner:
        gateway = Meddling(inner)
        with draining(stores, gateway) as drain:
            drain_all(drain)
            later = stores.create().invite.id
            settled = drain_all(drain)
            assert drain.batch() == []

    assert [(one.message.key, one.verdict.outcome) for one in settled] == [(later, Outcome.DELIVERED)]
    assert {row["key"]: row["state"] for row in stores.messages()} == dict.fromkeys([*ids, later], "delivered") | {
        stuck: "pending"
    }
    assert sum(stuck in keys for keys in gateway.delivered) <= 2
    named = [one for one in logs if one["event"] == "message_cannot_be_settled"]
    assert [(one["invite"], one["log_level"]) for one in named] == [(stuck, "error")]


@BOTH
def test_p08_a_suspect_that_cannot_be_counted_holds_up_no_other(stores: Stores, guard: Guard) -> None:
    ids = create_many(stores, 3)
    guard(stores, ids[1])
    with draining(stores) as drain:
        drain.suspects.extend(row["seq"] for row in stores.messages())
        drain_all(drain)

    assert {row["key"]: row["state"] for row in stores.messages()} == dict.fromkeys(ids, "delivered") | {
        ids[1]: "pending"
    }


@BOTH
@pytest.mark.parametrize("command", [("run", "--until-empty"), ("replay", "--all")])
def test_p08_a_command_that_drains_ends_with_1_and_names_it(
    stores: Stores, guard: Guard, command: tuple[str, ...]
) -> None:
    ids = create_many(stores, 5)
    guard(stores, ids[2])

    ended = relay(stores, *command)

    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "1 message cannot be settled, such as " in ended.err.splitlines()[-1]
    assert {row["id"] for row in rows(stores.mirror, "SELECT id FROM ingress_invites")} == set(ids)


def test_a_replay_that_waits_for_a_relay_which_settles_nothing_ends(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = stores.create().invite.id
    write(stores.source, "UPDATE outbox_messages SET origin = 'replay'")
    ignoring(stores, stuck)
    monkeypatch.setattr(replay, "STUCK_SECONDS", 1.0)
    done = Replayed(1)
    done.messages.add(row["seq"] for row in stores.messages())
    with running_relay(stores) as worker:
        worker.wait_for("message_cannot_be_settled")
        with gateway_of(stores) as gateway, pytest.raises(UnrepairedError, match="1 message is not settled"):
            see_through(stores.source, gateway, settings_of(stores), done, lambda _: None)


def test_p04_a_message_that_comes_back_once_is_delivered_again(stores: Stores) -> None:
    """As after a restored copy, in which it waits as it did before."""
    stores.create()
    with draining(stores) as drain:
        drain.batch()
        write(stores.source, "UPDATE outbox_messages SET state = 'pending', settled_at = NULL")
        drain.batch()
        assert stores.states() == ["delivered"]
        assert drain.apart.seqs == set()


def test_a_table_that_cannot_be_written_at_all_is_left_alone(stores: Stores) -> None:
    stores.create()
    (row,) = stores.messages()
    apart = SetApart()
    for seq in range(MOST + 5):
        apart.add(message_of(row)._replace(seq=seq), "no")
    with draining(stores) as drain:
        drain.apart = apart
        assert drain.batch() == []
    assert stores.states() == ["pending"]
