"""Real processes that change one invite at the same moment: exactly as many succeed as may."""

import json
from functools import partial
from pathlib import Path

import pytest
from freezegun import freeze_time
from sqlalchemy.orm import Session

from assistant_store import create_invite, expire_invite, record_invite_use, revoke_invite, upgrade
from outbox import open_engine
from tests.conftest import Stores, rows
from tests.outbox.processes import run_together
from tests.outbox.threads import start_behind_a_lock

CHANGES = {"use": record_invite_use, "revoke": revoke_invite, "expire": expire_invite}


def change_all(url: str, what: str, ids: list[str], folder: str) -> None:
    """Changes each invite and leaves a file for each that this process got."""
    engine = open_engine(url)
    for invite_id in ids:
        with Session(engine) as session, session.begin():
            changed = CHANGES[what](session, invite_id)
        if changed is not None:
            # Fails where another process of the same race has left one.
            (Path(folder) / f"{invite_id}-{changed.use_count}").open("x").close()
    engine.dispose()


def upgrade_and_create(url: str) -> None:
    engine = open_engine(url)
    upgrade(engine)
    with Session(engine) as session, session.begin():
        create_invite(session, source_channel="telegram", contact_id="co-1")
    engine.dispose()


@pytest.mark.parametrize("what", CHANGES)
def test_of_processes_that_change_an_invite_at_once_exactly_one_gets_it(
    stores: Stores, tmp_path: Path, what: str
) -> None:
    ids = [stores.create().invite.id for _ in range(10)]
    won = tmp_path / "won"
    won.mkdir()

    run_together(3, change_all, stores.source_url, what, ids, str(won))

    assert sorted(path.name.rsplit("-", 1)[0] for path in won.iterdir()) == sorted(ids)
    assert len(stores.messages()) == 20


def test_each_use_of_several_is_given_once(stores: Stores, tmp_path: Path) -> None:
    invite = stores.create(max_uses=5).invite
    won = tmp_path / "won"
    won.mkdir()

    run_together(2, change_all, stores.source_url, "use", [invite.id] * 4, str(won))

    assert sorted(path.name for path in won.iterdir()) == [f"{invite.id}-{n}" for n in range(1, 6)]
    counted = [json.loads(row["payload"])["useCount"] for row in stores.messages()]
    assert counted == [0, 1, 2, 3, 4, 5]


@pytest.mark.only("postgresql", because="on SQLite a writer has the whole database to itself")
@pytest.mark.parametrize("kept", [True, False])
def test_a_use_waits_for_one_that_is_not_committed_and_gets_the_last_place_only_if_that_is_undone(
    stores: Stores, kept: bool
) -> None:
    invite = stores.create().invite
    with Session(stores.source) as session:
        record_invite_use(session, invite.id, external_user_id="first")
        second = start_behind_a_lock(stores.source, partial(stores.use, invite.id, external_user_id="second"))
        session.commit() if kept else session.rollback()
    used = second.result(60)

    assert (used and used.redeemed_by_external_user_id) == (None if kept else "second")
    assert [json.loads(row["payload"])["useCount"] for row in stores.messages()] == [0, 1]


@pytest.mark.only("postgresql", because="on SQLite a writer has the whole database to itself")
def test_a_change_that_waited_has_a_version_above_the_one_that_it_waited_for(stores: Stores) -> None:
    with freeze_time("2024-01-02"):
        invite = stores.create(max_uses=2).invite
        with Session(stores.source) as session:
            first = record_invite_use(session, invite.id)
            second = start_behind_a_lock(stores.source, partial(stores.revoke, invite.id))
            session.commit()
        revoked = second.result(60)

    assert first is not None
    assert revoked is not None
    assert (revoked.use_count, revoked.updated_at) == (1, first.updated_at + 1)
    assert [row["version"] for row in stores.messages()] == [invite.updated_at + n for n in range(3)]


def test_processes_that_set_up_one_new_store_at_once_all_succeed(url: str) -> None:
    run_together(6, upgrade_and_create, url)

    engine = open_engine(url)
    assert rows(engine, "SELECT count(*) AS n FROM assistant_ingress_invites") == [{"n": 6}]
    assert rows(engine, "SELECT count(*) AS n FROM outbox_messages") == [{"n": 6}]
    engine.dispose()
