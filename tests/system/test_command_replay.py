"""`relay replay`: which rows it takes, who delivers them, how it ends, and that it repairs every kind of drift."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from tests.conftest import Stores, rows, write
from tests.relay.outages import missing
from tests.system.freezing import freeze
from tests.system.processes import RelayProcess, relay, running_relay, start_relay

NOW = datetime.now(UTC)


def drained(stores: Stores, count: int) -> list[str]:
    """Invites that are mirrored already, one a day back from now, newest first."""
    ids = []
    for day in range(count):
        invite = stores.create().invite
        ids.append(invite.id)
        at = int((NOW - timedelta(days=day)).timestamp() * 1_000)
        write(
            stores.source, "UPDATE assistant_ingress_invites SET updated_at = :at WHERE id = :id", at=at, id=invite.id
        )
    write(stores.source, "DELETE FROM outbox_messages")
    assert relay(stores, "replay", "--all").code == 0
    write(stores.source, "DELETE FROM outbox_messages")
    return ids


def replayed_keys(stores: Stores) -> set[str]:
    return {row["key"] for row in stores.messages("origin = 'replay'")}


def test_drift_of_each_kind_is_repaired_by_a_replay_and_found_clean(stores: Stores) -> None:
    deleted, changed, older = (stores.create(max_uses=2, note="ours").invite for _ in range(3))
    assert relay(stores, "run", "--until-empty").code == 0
    stores.use(older.id)
    write(stores.source, "DELETE FROM outbox_messages")
    write(stores.mirror, "DELETE FROM ingress_invites WHERE id = :id", id=deleted.id)
    write(stores.mirror, "UPDATE ingress_invites SET note = 'theirs', updated_at = 5 WHERE id = :id", id=changed.id)
    assert relay(stores, "verify").code == 1

    ended = relay(stores, "replay", "--all", "--json")
    assert ended.code == 0
    assert ended.json == {
        "selected": 3,
        "enqueued": 3,
        "already_waiting": 0,
        "delivered": 3,
        "repaired": 3,
        "unrepaired": 0,
        "still_different": {},
        "on_their_way": 0,
        "next_steps": [],
    }
    assert relay(stores, "verify").code == 0


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (("--since", "36h"), {0, 1}),
        (("--since", "2d", "--until", "12h"), {1}),
        (("--until", "36h"), {2, 3}),
        (("--since", (NOW - timedelta(hours=36)).isoformat()), {0, 1}),
        (("--all",), {0, 1, 2, 3}),
        (("--all", "--limit", "3"), None),
    ],
)
def test_a_replay_takes_the_rows_that_it_was_told_to(
    stores: Stores, args: tuple[str, ...], expected: set[int] | None
) -> None:
    ids = drained(stores, 4)
    dry = relay(stores, "replay", *args, "--dry-run", "--json").json
    assert stores.messages() == [], "a dry run writes nothing"
    assert relay(stores, "replay", *args).code == 0
    if expected is None:
        assert (dry, len(replayed_keys(stores))) == ({"would_enqueue": 3}, 3)
    else:
        assert replayed_keys(stores) == {ids[number] for number in expected}
        assert dry == {"would_enqueue": len(expected)}


def test_a_replay_by_id_and_of_the_dead_takes_only_those(stores: Stores) -> None:
    ids = drained(stores, 4)
    assert relay(stores, "replay", "--id", ids[1], "--id", ids[2]).code == 0
    assert replayed_keys(stores) == {ids[1], ids[2]}
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1 WHERE key = :id", id=ids[1])
    assert relay(stores, "replay", "--dead", "--json").json["enqueued"] == 1
    assert stores.messages("state = 'dead'") == []


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--all", "--since", "1h"),
        ("--since", "2026-05-13T14:11:00"),
        ("--since", "2026-05-13"),
        ("--since", "yesterday"),
        ("--since", "5w"),
        ("--all", "--limit", "0"),
        ("--all", "--rate", "0"),
    ],
)
def test_a_replay_that_is_not_clear_is_refused_with_2(stores: Stores, args: tuple[str, ...]) -> None:
    stores.create()
    before = stores.messages()
    ended = relay(stores, "replay", *args)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert stores.messages() == before


def test_a_replay_does_not_wait_if_told_so(stores: Stores) -> None:
    drained(stores, 2)
    found = relay(stores, "replay", "--all", "--no-wait", "--json").json
    assert found == {"selected": 2, "enqueued": 2, "already_waiting": 0}
    assert stores.states() == ["pending"] * 2


def test_a_replay_leaves_the_delivering_to_a_relay_that_lives(stores: Stores) -> None:
    ids = drained(stores, 3)
    write(stores.mirror, "DELETE FROM ingress_invites")
    with running_relay(stores) as worker:
        assert relay(stores, "replay", "--all", "--json").json["repaired"] == 3
        worker.wait_until_delivered(*ids)
    assert len(rows(stores.mirror, "SELECT id FROM ingress_invites")) == 3


@contextmanager
def replaying_beside_a_frozen_relay(stores: Stores) -> Iterator[tuple[RelayProcess, RelayProcess]]:
    """The relay, and a replay that has enqueued and waits for it."""
    with running_relay(stores) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        freeze(worker, stores)
        with start_relay(stores, "replay", "--all") as replaying:
            while not stores.messages("origin = 'replay'"):
                assert replaying.process.poll() is None
            yield worker, replaying


def test_a_replay_goes_on_by_itself_when_the_relay_it_waited_for_is_killed(stores: Stores) -> None:
    drained(stores, 3)
    with replaying_beside_a_frozen_relay(stores) as (worker, replaying):
        worker.kill()
        assert replaying.join() == 0
    assert stores.states() == ["delivered"] * 5


def test_a_replay_of_what_the_gateway_refuses_is_1(stores: Stores) -> None:
    drained(stores, 2)
    late = stores.create(contact_id="nobody").invite.id
    ended = relay(stores, "replay", "--all", "--json")
    assert ended.code == 1
    assert ended.json["repaired"] == 2
    assert ended.json["unrepaired"] == 1
    assert "1 message was refused" in ended.err
    assert stores.mirrored(late) is None


def test_a_replay_without_a_gateway_is_4_and_what_was_enqueued_stays(stores: Stores) -> None:
    drained(stores, 2)
    with missing(stores):
        ended = relay(stores, "replay", "--all")
    assert ended.code == 4
    assert "gateway cannot be reached" in ended.err
    assert [(row["state"], row["attempts"]) for row in stores.messages()] == [("pending", 0)] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_replay_that_is_interrupted_is_3_and_goes_on_when_run_again(stores: Stores, number: signal.Signals) -> None:
    drained(stores, 5)
    with start_relay(stores, "replay", "--all", "--rate", "0.5") as replaying:
        while not stores.messages("origin = 'replay'"):
            assert replaying.process.poll() is None
        replaying.process.send_signal(number)
        assert replaying.join() == 3
        assert any("interrupted; run it again" in str(line) for line in replaying.seen)
    assert 1 <= len(stores.messages()) < 5
    assert relay(stores, "replay", "--all").code == 0
    assert replayed_keys(stores) == {
        row["id"] for row in rows(stores.source, "SELECT id FROM assistant_ingress_invites")
    }


def test_a_replay_interrupted_while_it_waits_for_a_relay_is_3(stores: Stores) -> None:
    drained(stores, 2)
    with replaying_beside_a_frozen_relay(stores) as (_, replaying):
        replaying.process.send_signal(signal.SIGTERM)
        assert replaying.join() == 3
    assert stores.states() == ["delivered"] + ["pending"] * 3
