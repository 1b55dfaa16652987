"""A relay drains into the gateway that its outbox was first drained into, and into no other, and no other's."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest.mock import ANY

import pytest
from sqlalchemy import make_url
from sqlalchemy.orm import Session

import gateway_store
from outbox import Destination, Outcome, open_engine, reading, statements
from relay.destinations import socket_server
from relay.destinations.port import GatewayFacts
from relay.errors import OtherGatewayError
from relay.introduction import Introduction
from relay.open import open_gateway
from relay.worker import Worker
from tests.conftest import CONTACT, Stores, rows, stores_at
from tests.databases import database_url
from tests.relay.rig import Around, create_many, drain_all, draining, gateway_of, outcomes, settings_of
from tests.socket.clients import gateway, url
from tests.socket.scripted import error, scripted
from tests.system.processes import relay, running_relay


@contextmanager
def another_pair(stores: Stores, backend: str) -> Iterator[Stores]:
    """Made by themselves: copies of one database are one store."""
    folder = stores.folder / "other"
    folder.mkdir()
    with ExitStack() as stack:
        urls = [stack.enter_context(database_url(backend, folder, name)) for name in ("assistant.db", "gateway.db")]
        yield stack.enter_context(stores_at(folder, *urls))


@dataclass(slots=True)
class Interrupted(Around):
    """What another relay does happens while this one is asked whose it is, once."""

    meanwhile: Callable[[], object]
    interrupted: list[object] = field(default_factory=list)

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        found = self.inner.claim(assistant, facts, take_over=take_over)
        if not self.interrupted:
            self.interrupted.append(self.meanwhile())
        return found


def identity_of(stores: Stores) -> str:
    return str(rows(stores.mirror, "SELECT id FROM store_identity")[0]["id"])


def drain(stores: Stores, *args: str, into: str | None = None) -> tuple[int, str]:
    ended = relay(stores, "--gateway", into or stores.mirror_url, "run", "--until-empty", *args)
    return ended.code, ended.err


def test_a_relay_refuses_another_gateway_with_both_names_and_the_cure(stores: Stores, backend: str) -> None:
    create_many(stores, 2)
    assert drain(stores)[0] == 0
    with another_pair(stores, backend) as other:
        create_many(stores, 2)
        code, said = drain(stores, into=other.mirror_url)
        assert code == 4
        for words in (identity_of(stores), identity_of(other), "--new-gateway", "replay --all"):
            assert words in said
        assert rows(other.mirror, "SELECT id FROM ingress_invites") == []
    assert stores.states() == ["delivered"] * 2 + ["pending"] * 2


def test_with_new_gateway_and_a_replay_of_everything_the_new_one_agrees(stores: Stores, backend: str) -> None:
    create_many(stores, 2)
    assert drain(stores)[0] == 0
    with another_pair(stores, backend) as other:
        assert drain(stores, "--new-gateway", into=other.mirror_url)[0] == 0
        assert relay(stores, "--gateway", other.mirror_url, "replay", "--all").code == 0
        assert relay(stores, "--gateway", other.mirror_url, "verify").code == 0
        assert drain(stores)[0] == 4, "the old one is the other one by now"


def test_a_gateway_mirrors_the_invites_of_one_assistant(stores: Stores, backend: str) -> None:
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    with another_pair(stores, backend) as other:
        create_many(other, 1)
        code, said = drain(other, into=stores.mirror_url)
        assert code == 4
        assert "another assistant" in said
        assert len(rows(stores.mirror, "SELECT id FROM ingress_invites")) == 1
        assert drain(other, "--new-gateway", into=stores.mirror_url)[0] == 0
        assert drain(stores)[0] == 4


def test_one_store_by_two_urls_is_one_gateway(stores: Stores) -> None:
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    again = make_url(stores.mirror_url).update_query_dict({"application_name": "again"}).render_as_string(False)
    if stores.mirror.dialect.name == "sqlite":
        link = stores.folder / "link.db"
        link.symlink_to(stores.folder / "gateway.db")
        again = f"sqlite:///{link}"
    create_many(stores, 1)
    assert drain(stores, into=again)[0] == 0
    assert relay(stores, "--gateway", again, "replay", "--all").code == 0
    assert relay(stores, "--gateway", again, "verify").code == 0


@pytest.mark.only("sqlite", because="its file can be replaced under a relay that runs")
def test_a_gateway_put_in_the_place_of_the_right_one_is_not_drained_into(stores: Stores, backend: str) -> None:
    create_many(stores, 1)
    with another_pair(stores, backend) as other, running_relay(stores) as started:
        started.wait_for("delivered")
        with Session(other.mirror) as session, session.begin():
            gateway_store.upsert_contact(session, id=CONTACT, display_name="x")
        other.mirror.dispose()
        stores.mirror.dispose()
        right = stores.folder / "gateway.db"
        right.rename(stores.folder / "right.db")
        for of_the_right_one in ("gateway.db-wal", "gateway.db-shm"):
            (stores.folder / of_the_right_one).unlink(missing_ok=True)
        shutil.copy(other.folder / "gateway.db", stores.folder / "wrong.db")
        (stores.folder / "wrong.db").rename(right)
        stores.create()
        assert "another gateway" in started.wait_for("gateway_unreachable")["reason"]
        assert started.terminate() == 0
    assert stores.states() == ["delivered", "pending"]


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_a_gateway_is_the_same_through_its_socket_and_in_its_file(stores: Stores) -> None:
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    create_many(stores, 1)
    with gateway(stores):
        assert drain(stores, into=url(stores))[0] == 0
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    assert relay(stores, "verify").code == 0


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_a_socket_behind_which_is_another_gateway_is_refused(stores: Stores, backend: str) -> None:
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    with another_pair(stores, backend) as other, gateway(other):
        code, said = drain(stores, into=url(other))
        assert code == 4
        assert identity_of(other) in said
        create_many(other, 1)
        assert drain(other, into=url(other))[0] == 0


def test_a_gateway_counts_the_batches_it_applied_and_the_outbox_remembers(stores: Stores) -> None:
    create_many(stores, 3)
    gateway_ = open_gateway(settings_of(stores))
    Worker(stores.source, gateway_, settings_of(stores, batch_size=1)).run(until_empty=True)
    gateway_.close()
    with reading(stores.source) as connection:
        into = statements.drained_into(connection, Destination.GATEWAY)
    assert into is not None
    assert into.gateway_identity == identity_of(stores)
    assert into.batches_seen == 3


@pytest.mark.only("sqlite", because="a copy of a file is a copy of the store")
def test_a_gateway_restored_from_an_old_copy_is_said_to_be_with_its_cure(stores: Stores) -> None:
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    stores.mirror.dispose()
    path, copy = stores.folder / "gateway.db", stores.folder / "copy.db"
    shutil.copy(path, copy)
    create_many(stores, 2)
    assert drain(stores)[0] == 0
    stores.mirror.dispose()
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)
    copy.rename(path)
    said = relay(stores, "status")
    assert said.code == 1
    assert "restored from an old copy" in said.err
    assert "relay replay --all" in said.err
    assert relay(stores, "replay", "--all").code == 0
    assert relay(stores, "verify").code == 0
    assert relay(stores, "status").code == 0


def test_a_relay_that_runs_ends_once_the_outbox_drains_into_another_gateway(stores: Stores, backend: str) -> None:
    create_many(stores, 1)
    with running_relay(stores) as started, another_pair(stores, backend) as other:
        started.wait_for("delivered")
        assert drain(stores, "--new-gateway", into=other.mirror_url)[0] == 0
        assert started.join() == 4
        mirrored = len(rows(stores.mirror, "SELECT id FROM ingress_invites"))
        create_many(stores, 5)
        assert drain(stores, into=other.mirror_url)[0] == 0
        assert relay(stores, "--gateway", other.mirror_url, "replay", "--all").code == 0
        assert relay(stores, "--gateway", other.mirror_url, "status").code == 0
    assert mirrored == len(rows(stores.mirror, "SELECT id FROM ingress_invites")) == 1


def put_back(stores: Stores, copy: Path) -> None:
    """The copy takes the place of the gateway's database, as a restore leaves it."""
    stores.mirror.dispose()
    copy.rename(stores.folder / "gateway.db")
    for name in ("gateway.db-wal", "gateway.db-shm"):
        (stores.folder / name).unlink(missing_ok=True)


@pytest.mark.only("sqlite", because="a copy of a file is a copy of the store")
@pytest.mark.parametrize("lives", [True, False])
def test_a_restored_gateway_is_said_to_be_however_many_batches_it_applies_afterwards(
    stores: Stores, lives: bool
) -> None:
    copy = stores.folder / "copy.db"
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    with stores.mirror.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql(f"VACUUM INTO '{copy}'")
    with running_relay(stores, RELAY_PROBE_LONGEST="0.2") as started:
        started.wait_until_delivered(stores.create().invite.id)
        started.wait_until_delivered(stores.create().invite.id)
        if not lives:
            assert started.terminate() == 0
            put_back(stores, copy)
        with running_relay(stores, RELAY_PROBE_LONGEST="0.2") if not lives else nullcontext(started) as after:
            if lives:
                put_back(stores, copy)
            for _ in range(5):
                after.wait_until_delivered(stores.create().invite.id)
            said = relay(stores, "status")
            assert (said.code, "restored from an old copy" in said.err) == (1, True)
            assert relay(stores, "verify").code == 1
            # A part of it brings back a part.
            assert relay(stores, "replay", "--all", "--limit", "1").code == 0
            assert "restored from an old copy" in relay(stores, "status").err
            assert relay(stores, "replay", "--all").code == 0
            after.wait_until_delivered(stores.create().invite.id)
            assert after.terminate() == 0
    assert relay(stores, "verify").code == 0
    said = relay(stores, "status")
    assert "restored" not in said.err


@pytest.mark.only("sqlite", because="a copy of a file is a copy of the store")
def test_the_right_gateway_restored_from_a_copy_of_before_its_first_batch_is_claimed_again(stores: Stores) -> None:
    path, copy = stores.folder / "gateway.db", stores.folder / "copy.db"
    with stores.mirror.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql(f"VACUUM INTO '{copy}'")
    with running_relay(stores, RELAY_PROBE_LONGEST="0.2") as started:
        started.wait_until_delivered(stores.create().invite.id)
        stores.mirror.dispose()
        copy.rename(path)
        for name in ("gateway.db-wal", "gateway.db-shm"):
            (stores.folder / name).unlink(missing_ok=True)
        started.wait_until_delivered(stores.create().invite.id)
        assert started.terminate() == 0


def test_a_relay_that_is_refused_never_shows_among_the_relays(stores: Stores, backend: str) -> None:
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    with another_pair(stores, backend) as other:
        gateway_ = open_gateway(settings_of(other))
        with pytest.raises(OtherGatewayError):
            Worker(stores.source, gateway_, settings_of(other)).run()
        gateway_.close()
    assert rows(stores.source, "SELECT id FROM outbox_relays") == []


def test_an_engine_of_the_store_keeps_its_identity_over_upgrades(stores: Stores) -> None:
    before = identity_of(stores)
    engine = open_engine(stores.mirror_url)
    gateway_store.upgrade(engine)
    engine.dispose()
    assert identity_of(stores) == before


@pytest.mark.parametrize("first", [True, False], ids=["before its first drain", "drained before"])
def test_a_relay_that_was_slow_to_introduce_itself_does_not_undo_a_change_of_gateway(
    stores: Stores, backend: str, first: bool
) -> None:
    """It had read where the outbox drains into, and writes that back only after another relay changed it."""
    create_many(stores, 1)
    if not first:
        assert drain(stores)[0] == 0
        create_many(stores, 1)
        with draining(stores) as apart:
            # Without noting how many batches the gateway has applied by now, which is what there is to write.
            drain_all(apart)
    with another_pair(stores, backend) as other, gateway_of(stores) as real:
        slow = Interrupted(real, lambda: drain(stores, "--new-gateway", into=other.mirror_url))
        with pytest.raises(OtherGatewayError):
            Introduction(stores.source, slow, Destination.GATEWAY, stores.mirror_url).make()
        assert slow.interrupted == [(0, ANY)]
        with reading(stores.source) as connection:
            into = statements.drained_into(connection, Destination.GATEWAY)
        assert into is not None
        assert into.gateway_identity == identity_of(other)


def test_a_replay_by_another_gateway_is_refused_though_a_relay_drains_into_the_right_one(
    stores: Stores, backend: str
) -> None:
    create_many(stores, 2)
    with running_relay(stores) as started, another_pair(stores, backend) as other:
        started.wait_for("delivered")
        before = stores.messages()
        said = relay(stores, "--gateway", other.mirror_url, "replay", "--all")
        assert (said.code, identity_of(other) in said.err, "--new-gateway" in said.err) == (4, True, True)
        assert stores.messages() == before
        assert started.terminate() == 0


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_nothing_is_delivered_on_a_kept_connection_once_another_assistant_took_the_gateway_over(
    stores: Stores, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked before each delivery here, and otherwise before one that comes a second later than the last answer."""
    monkeypatch.setattr(socket_server, "FACTS_SECONDS", 0.0)
    through_socket = replace(stores, mirror_url=url(stores))
    with another_pair(stores, backend) as other, gateway(stores), gateway_of(through_socket) as kept:
        Introduction(stores.source, kept, Destination.GATEWAY, url(stores)).make()
        create_many(stores, 1)
        with draining(stores, kept) as relay_:
            assert outcomes(drain_all(relay_)) == [Outcome.DELIVERED]
            assert drain(other, "--new-gateway", into=url(stores))[0] == 0
            create_many(stores, 3)
            assert set(outcomes(drain_all(relay_))) == {Outcome.UNREACHABLE}
        assert len(rows(stores.mirror, "SELECT id FROM ingress_invites")) == 1


@pytest.mark.only("sqlite", because="what is tested is the socket")
@pytest.mark.parametrize("text", ["Internal server error", "", "Invalid params: []"])
def test_a_relay_waits_for_a_gateway_that_answers_a_probe_oddly_and_offers_no_other(stores: Stores, text: str) -> None:
    """At its start, where it knows no better yet: the right gateway must not look like one without an identity."""
    create_many(stores, 1)
    assert drain(stores)[0] == 0
    at = stores.folder / "odd.sock"
    with scripted(at, error(text)) as server:
        server.probe_answer = error(text)
        with running_relay(stores, "--gateway", f"unix://{at}", "run", RELAY_PROBE_LONGEST="0.2") as started:
            for _ in range(3):
                assert "the gateway answered" in started.wait_for("gateway_unreachable")["reason"]
            said = relay(stores, "--gateway", f"unix://{at}", "status")
            assert "new-gateway" not in said.out + said.err
            assert started.terminate() == 0
    with gateway(stores):
        create_many(stores, 1)
        assert drain(stores, into=url(stores))[0] == 0
