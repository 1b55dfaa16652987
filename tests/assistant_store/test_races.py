"""Real processes that change one invite at the same moment: exactly as many succeed as may."""

import json
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from assistant_store import create_invite, expire_invite, record_invite_use, revoke_invite, upgrade
from outbox import open_engine
from tests.conftest import Stores, rows
from tests.outbox.processes import run_together

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


def test_processes_that_set_up_one_new_store_at_once_all_succeed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'new.db'}"

    run_together(6, upgrade_and_create, url)

    engine = open_engine(url)
    assert rows(engine, "SELECT count(*) AS n FROM assistant_ingress_invites") == [{"n": 6}]
    assert rows(engine, "SELECT count(*) AS n FROM outbox_messages") == [{"n": 6}]
    engine.dispose()
