"""`relay verify --close-extra`: what only the gateway has is revoked there through the merge, and nothing else."""

from pathlib import Path

import pytest

from relay.close_extra import close_extra
from relay.id_pages import PAGE, IdPages
from tests.conftest import Stores, rows, write
from tests.databases import database_url
from tests.gateway_store.catalogue import content
from tests.gateway_store.shapes import make
from tests.gateway_store.test_take_over import MARKS
from tests.relay.rig import create_many, drain_all, draining
from tests.system.processes import relay
from tests.system.test_which_gateway import another_pair


def only_there(stores: Stores, count: int = 1) -> list[str]:
    ids = create_many(stores, count)
    with draining(stores) as drain:
        drain_all(drain)
    write(stores.source, "DELETE FROM assistant_ingress_invites")
    return ids


def statuses(stores: Stores) -> dict[str, str]:
    return {row["id"]: row["status"] for row in rows(stores.mirror, "SELECT id, status FROM ingress_invites")}


def test_many_are_revoked_and_each_is_named(stores: Stores) -> None:
    ids = only_there(stores, PAGE + 1)
    shared = stores.create().invite.id
    with draining(stores) as drain:
        drain_all(drain)
    before = rows(stores.mirror, "SELECT * FROM ingress_invites ORDER BY id")
    ended = relay(stores, "verify", "--close-extra", "--json")
    assert (ended.code, ended.json["revoked_at_gateway"], ended.json["open"]) == (0, PAGE + 1, 0)
    assert {one["id"] for one in ended.json["differences"]} == set(ids)
    assert statuses(stores) == dict.fromkeys(ids, "revoked") | {shared: "active"}
    after = rows(stores.mirror, "SELECT * FROM ingress_invites ORDER BY id")
    assert [row | {"status": "active"} for row in after] == before


def test_by_id_only_those_are_revoked(stores: Stores) -> None:
    one, other = only_there(stores, 2)
    assert relay(stores, "verify", "--id", one, "--close-extra").code == 0
    assert statuses(stores) == {one: "revoked", other: "active"}


@pytest.mark.parametrize("status", ["redeemed", "expired"])
def test_one_that_is_closed_already_stays_as_it_is(stores: Stores, status: str) -> None:
    (id_,) = only_there(stores)
    write(stores.mirror, "UPDATE ingress_invites SET status = :status", status=status)
    assert relay(stores, "verify", "--close-extra").code == 0
    assert statuses(stores) == {id_: status}


def test_one_that_cannot_be_revoked_is_named_and_1_and_fails_alone(stores: Stores) -> None:
    odd, good = only_there(stores, 2)
    write(stores.mirror, "UPDATE ingress_invites SET status = 'half open' WHERE id = :id", id=odd)
    ended = relay(stores, "verify", "--close-extra", "--json")
    assert (ended.code, ended.json["revoked_at_gateway"], ended.json["open"]) == (1, 1, 1)
    assert f"invite {odd} could not be revoked at the gateway: " in ended.err
    assert statuses(stores) == {odd: "half open", good: "revoked"}


def test_other_drift_is_still_1_with_its_own_step(stores: Stores) -> None:
    only_there(stores)
    lost = stores.create().invite.id
    write(stores.source, "DELETE FROM outbox_messages")
    ended = relay(stores, "verify", "--close-extra", "--json")
    assert ended.code == 1
    (step,) = ended.json["next_steps"]
    assert step.startswith("1 missing: ")
    assert lost in step


def test_one_that_the_assistant_has_by_now_is_not_revoked(stores: Stores) -> None:
    id_ = stores.create().invite.id
    with draining(stores) as drain:
        drain_all(drain)
    extra = IdPages()
    extra.add([id_])
    closed = close_extra(stores.source, stores.mirror, stores.mirror_url, extra)
    assert (closed.revoked, closed.passed_over) == (0, 1)
    assert statuses(stores) == {id_: "active"}


@pytest.mark.parametrize("status", ["redeemed", "expired"])
def test_one_that_was_closed_since_it_was_found_stays_as_it_is(stores: Stores, status: str) -> None:
    (id_,) = only_there(stores)
    write(stores.mirror, "UPDATE ingress_invites SET status = :status", status=status)
    extra = IdPages()
    extra.add([id_])
    close_extra(stores.source, stores.mirror, stores.mirror_url, extra)
    assert statuses(stores) == {id_: status}


def test_nothing_of_another_assistants_gateway_is_revoked(stores: Stores, backend: str) -> None:
    with another_pair(stores, backend) as other:
        other.create()
        with draining(other) as drain:
            drain_all(drain)
        assert relay(other, "run", "--until-empty").code == 0
        ended = relay(stores, "--gateway", other.mirror_url, "verify", "--close-extra")
        assert ended.code == 4
        assert "another assistant" in ended.err
        assert set(statuses(other).values()) == {"active"}


def test_nothing_of_the_real_gateways_database_is_revoked(stores: Stores, tmp_path: Path, backend: str) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    with database_url(backend, folder, "theirs.db") as theirs:
        make(theirs, "all columns", *MARKS.values(), invites=3)
        before = content(theirs)
        ended = relay(stores, "--gateway", theirs, "verify", "--close-extra")
        assert (ended.code, "another program's" in ended.only_line) == (4, True)
        assert content(theirs) == before


def test_a_drained_extra_that_the_source_brings_back_stays_revoked(stores: Stores) -> None:
    id_ = stores.create().invite.id
    with draining(stores) as drain:
        drain_all(drain)
    write(stores.source, "UPDATE assistant_ingress_invites SET id = 'away'")
    assert relay(stores, "verify", "--id", id_, "--close-extra").code == 0
    write(stores.source, "UPDATE assistant_ingress_invites SET id = :id", id=id_)
    assert relay(stores, "replay", "--id", id_).code == 1
    assert statuses(stores)[id_] == "revoked"
