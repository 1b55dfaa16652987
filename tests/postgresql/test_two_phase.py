"""P1 where the daemon commits in two phases, with an invite's change as a part of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.orm import Session

from assistant_store import create_invite, revoke_invite
from outbox import configure_engine, open_engine
from tests.conftest import CONTACT, Stores, rows
from tests.postgres import Cluster, new_folder
from tests.postgresql.servers import stores_with


@pytest.fixture(scope="module")
def own_server() -> Iterator[Cluster]:
    """A server's own setting is to prepare nothing."""
    with Cluster(new_folder(), {"fsync": "off", "max_prepared_transactions": "10"}) as cluster:
        yield cluster


@pytest.fixture
def stores(own_server: Cluster, tmp_path: Path) -> Iterator[Stores]:
    with stores_with(own_server, tmp_path, "source", "mirror") as made:
        yield made


def configured(url: str) -> Engine:
    engine = create_engine(url)
    configure_engine(engine)
    return engine


@pytest.fixture(params=[open_engine, create_engine, configured])
def engine(request: pytest.FixtureRequest, stores: Stores) -> Iterator[Engine]:
    made: Engine = request.param(stores.source_url)
    yield made
    made.dispose()


def new_invite(session: Session) -> str:
    return create_invite(session, source_channel="telegram", contact_id=CONTACT).invite.id


def test_p01_both_phases_commit_an_invite_and_its_message(stores: Stores, engine: Engine) -> None:
    with Session(engine, twophase=True) as session, session.begin():
        invite_id = new_invite(session)
        assert revoke_invite(session, invite_id) is not None

    assert [row["key"] for row in stores.messages()] == [invite_id] * 2


def test_p01_neither_is_there_until_the_second_phase(stores: Stores, engine: Engine) -> None:
    with Session(engine, twophase=True) as session:
        new_invite(session)
        session.prepare()
        assert stores.messages() == []
        assert len(rows(stores.source, "SELECT gid FROM pg_prepared_xacts")) == 1
        session.commit()

    assert len(stores.messages()) == 1


@pytest.mark.parametrize("prepared", [False, True])
def test_p01_both_are_rolled_back(stores: Stores, engine: Engine, prepared: bool) -> None:
    with Session(engine, twophase=True) as session:
        new_invite(session)
        if prepared:
            session.prepare()
        session.rollback()
        assert session.execute(text("SELECT count(*) FROM assistant_ingress_invites")).scalar_one() == 0

    assert stores.messages() == []
    assert rows(stores.source, "SELECT gid FROM pg_prepared_xacts") == []
