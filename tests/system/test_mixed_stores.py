"""One store on SQLite and the other on PostgreSQL, either way round: the same promises, and the same rows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Stores, rows, stores_at, write
from tests.databases import database_url
from tests.relay.outages import missing
from tests.system.processes import relay, running_relay

# In another order by the rules of a language, or of UTF-16, than by code points, by which `verify` goes through both.
AWKWARD_IDS = ("B", "a", "_", "-", "é", "e\u0301", "10", "9", "Ω", "\U0001f600", "\uffee")


@pytest.fixture(params=[("sqlite", "postgresql"), ("postgresql", "sqlite")], ids=" to ".join)
def mixed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    source, mirror = request.param
    with (
        database_url(source, tmp_path, "assistant.db") as source_url,
        database_url(mirror, tmp_path, "gateway.db") as mirror_url,
        stores_at(tmp_path, source_url, mirror_url) as stores,
    ):
        yield stores


def make_every_kind_of_invite(stores: Stores) -> None:
    stores.create(note="für 😀 \\ ' \" \n", max_uses=2**53 - 1)
    stores.create(source_channel="phone", expected_external_user_id="+15551234567", friend_name="A", guardian_name="B")
    stores.use(stores.create(max_uses=3).invite.id, external_user_id="u", external_chat_id="c")
    stores.use(stores.create().invite.id, external_user_id="ü")
    stores.revoke(stores.create().invite.id)


def assert_same_rows(stores: Stores) -> None:
    ours = {row["id"]: row for row in rows(stores.source, "SELECT * FROM assistant_ingress_invites")}
    assert ours == {row["id"]: row for row in rows(stores.mirror, "SELECT * FROM ingress_invites")}
    assert relay(stores, "verify").code == 0


def test_every_kind_of_invite_is_mirrored_whole(mixed: Stores) -> None:
    make_every_kind_of_invite(mixed)
    assert relay(mixed, "run", "--until-empty").code == 0
    assert set(mixed.states()) == {"delivered", "superseded"}
    assert_same_rows(mixed)


def test_drift_is_found_whatever_the_order_of_the_ids_and_repaired_by_a_replay(mixed: Stores) -> None:
    invites = [mixed.create().invite.id for _ in AWKWARD_IDS]
    for invite, awkward in zip(invites, AWKWARD_IDS, strict=True):
        write(mixed.source, "UPDATE assistant_ingress_invites SET id = :new WHERE id = :old", new=awkward, old=invite)
    write(mixed.source, "DELETE FROM outbox_messages")
    assert relay(mixed, "replay", "--all", "--json").json["repaired"] == len(AWKWARD_IDS)
    assert_same_rows(mixed)
    write(mixed.mirror, "DELETE FROM ingress_invites WHERE id = 'é'")
    write(mixed.mirror, "UPDATE ingress_invites SET note = 'x', updated_at = 5 WHERE id = '_'")

    found = relay(mixed, "verify", "--json").json
    assert {one["id"]: one["kind"] for one in found["differences"]} == {"é": "missing", "_": "stale"}
    assert found["assistant_rows"] == len(AWKWARD_IDS)

    assert relay(mixed, "replay", "--all").code == 0
    assert_same_rows(mixed)


def test_a_running_relay_is_woken_and_outlasts_an_outage_without_an_attempt(mixed: Stores) -> None:
    with running_relay(mixed, RELAY_POLL_INTERVAL="3600", RELAY_LEASE="60", RELAY_PROBE_LONGEST="0.2") as worker:
        worker.wait_until_delivered(mixed.create().invite.id)
        with missing(mixed):
            during = mixed.create().invite.id
            worker.wait_for("gateway_unreachable")
            mixed.revoke(during)
        worker.wait_until_delivered(during)
        assert worker.terminate() == 0
    assert {row["attempts"] for row in mixed.messages()} == {0}
    assert_same_rows(mixed)
