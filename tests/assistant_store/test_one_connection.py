"""P1 from a session of several databases: an invite and its message are on the one that takes writes to the invites."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Delete, Engine, Insert, Table, Update, inspect
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import UpdateBase

import gateway_store
import outbox
from assistant_store import create_invite, expire_invite, record_invite_use, revoke_invite
from assistant_store.invites.invite import INVITES
from assistant_store.invites.replay import Selection, count_selected, replay_page
from gateway_store.invites.invite import INVITES as MIRRORED
from outbox import configure_engine, open_engine
from outbox.pages import START
from tests.conftest import CONTACT, Stores, write
from tests.databases import database_url
from tests.gateway_store.examples import payload
from tests.outbox.listening import hearing

Make = Callable[[Engine, Engine], Session]
Routes = Callable[[Any, Any, bool], bool]


def as_documented(_mapper: Any, clause: Any, flushing: bool) -> bool:
    """The recipe in SQLAlchemy's documentation: who inserts by Core's statement is sent to a follower."""
    return flushing or isinstance(clause, Update | Delete)


def every_write(_mapper: Any, clause: Any, flushing: bool) -> bool:
    return flushing or isinstance(clause, Insert | Update | Delete)


def by_kind(_mapper: Any, clause: Any, _flushing: bool) -> bool:
    return isinstance(clause, UpdateBase)


def by_table(_mapper: Any, clause: Any, _flushing: bool) -> bool:
    table = getattr(clause, "table", None)
    return isinstance(table, Table) and table.name in ("assistant_ingress_invites", "ingress_invites")


def routed(routes: Routes) -> Make:
    def make(leader: Engine, follower: Engine) -> Session:
        class RoutingSession(Session):
            # As in the recipe: no other arguments.
            def get_bind(self, mapper: Any = None, clause: Any = None) -> Engine:  # type: ignore[override]
                return leader if routes(mapper, clause, self._flushing) else follower

        return RoutingSession()

    return make


def with_binds(leader: Engine, follower: Engine) -> Session:
    return Session(follower, binds={INVITES: leader, MIRRORED: leader})


def with_binds_alone(leader: Engine, _follower: Engine) -> Session:
    return Session(binds={INVITES: leader, MIRRORED: leader})


makes = pytest.mark.parametrize(
    "make",
    [*map(routed, (as_documented, every_write, by_kind, by_table)), with_binds, with_binds_alone],
    ids=["documented", "every write", "by kind", "by table", "binds", "binds alone"],
)


@pytest.fixture
def empty(tmp_path: Path, backend: str) -> Iterator[Engine]:
    """A database without any of our tables, in which each of our statements would fail."""
    with database_url(backend, tmp_path, "empty.db") as url:
        engine = open_engine(url)
        yield engine
        assert inspect(engine).get_table_names() == []
        engine.dispose()


def new_invite(session: Session) -> str:
    return create_invite(session, source_channel="telegram", contact_id=CONTACT).invite.id


@makes
def test_p01_every_change_of_an_invite_and_its_message_use_the_connection_for_writes(
    stores: Stores, empty: Engine, make: Make
) -> None:
    ids = []
    for change in (record_invite_use, revoke_invite, expire_invite):
        with make(stores.source, empty) as session, session.begin():
            ids.append(new_invite(session))
            assert change(session, ids[-1]) is not None

    keys = [row["key"] for row in stores.messages()]
    assert keys == [invite_id for invite_id in ids for _ in range(2)]


@pytest.mark.parametrize("change", [record_invite_use, revoke_invite, expire_invite])
def test_p01_a_change_asks_the_session_for_its_connection_once(
    stores: Stores, change: Callable[[Session, str], object]
) -> None:
    invite = stores.create().invite
    asked: list[object] = []

    def count(_mapper: Any, clause: Any, _flushing: bool) -> bool:
        # Whoever spreads its statements over several engines would give the second another.
        asked.append(clause)
        return True

    for work in (new_invite, lambda session: change(session, invite.id)):
        with routed(count)(stores.source, stores.source) as session, session.begin():
            assert work(session) is not None
        assert len(asked) == 1
        asked.clear()


@makes
def test_p01_a_replay_reads_and_enqueues_on_the_connection_for_writes(
    stores: Stores, empty: Engine, make: Make
) -> None:
    invite = stores.create().invite
    write(stores.source, "UPDATE outbox_messages SET state = 'delivered', settled_at = 1")

    with make(stores.source, empty) as session, session.begin():
        assert count_selected(session, Selection()) == 1
        assert replay_page(session, Selection(), place=START, limit=10).ids == [invite.id]

    assert [row["origin"] for row in stores.messages()] == ["live", "replay"]


@makes
def test_the_gateway_writes_contacts_and_invites_on_the_connection_for_writes(
    stores: Stores, empty: Engine, make: Make
) -> None:
    with make(stores.mirror, empty) as session, session.begin():
        gateway_store.upsert_contact(session, id="co-2", display_name="Ada")
        mirrored = gateway_store.mirror_create(session, payload(contactId="co-2"))

    assert stores.mirrored(mirrored.invite.id) == mirrored.invite


@makes
def test_a_change_that_is_rolled_back_leaves_neither(stores: Stores, empty: Engine, make: Make) -> None:
    invite = stores.create().invite

    with make(stores.source, empty) as session:
        assert revoke_invite(session, invite.id) is not None
        session.rollback()

    assert len(stores.messages()) == 1
    assert stores.revoke(invite.id) is not None


def test_p01_an_asyncio_daemon_whose_session_routes_uses_one_connection_as_well(stores: Stores, empty: Engine) -> None:
    stores.source.dispose()
    empty.dispose()
    leader, follower = (
        create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
        for url in (stores.source_url, empty.url.render_as_string(hide_password=False))
    )
    configure_engine(leader.sync_engine)

    class RoutingSession(Session):
        def get_bind(self, mapper: Any = None, clause: Any = None, **_: Any) -> Engine:
            return leader.sync_engine if as_documented(mapper, clause, self._flushing) else follower.sync_engine

    async def work() -> None:
        async with AsyncSession(sync_session_class=RoutingSession) as session, session.begin():
            invite_id = await session.run_sync(new_invite)
            assert await session.run_sync(revoke_invite, invite_id) is not None
        await leader.dispose()
        await follower.dispose()

    asyncio.run(work())

    assert len(stores.messages()) == 2


def test_a_message_of_a_row_of_the_callers_goes_where_it_says(stores: Stores, empty: Engine) -> None:
    session = Session(empty, binds={INVITES: stores.source})
    with session, session.begin():
        given: dict[str, Any] = {"topic": "t", "version": 1, "payload": "{}"}
        outbox.enqueue(session, key="a", bind_arguments={"clause": INVITES}, **given)
        outbox.enqueue(session, key="b", bind_arguments={"bind": stores.source}, **given)

    assert [row["key"] for row in stores.messages()] == ["a", "b"]


def test_a_message_goes_where_the_session_writes_unless_told_otherwise(stores: Stores, empty: Engine) -> None:
    with routed(as_documented)(stores.source, empty) as session, session.begin():
        outbox.enqueue(session, topic="t", key="a", version=1, payload="{}")

    assert len(stores.messages()) == 1


@pytest.mark.only("sqlite", because="a server wakes its listeners by itself")
def test_each_database_that_a_session_enqueued_in_is_woken(stores: Stores, tmp_path: Path) -> None:
    other = open_engine(f"sqlite:///{tmp_path / 'other.db'}")
    outbox.upgrade(other)
    with hearing(stores.source) as first, hearing(other) as second, Session(other) as session:
        for engine in (stores.source, other):
            outbox.enqueue(session, topic="t", key="a", version=1, payload="{}", bind_arguments={"bind": engine})
        session.commit()
        assert (first(), second()) == (1, 1)
    other.dispose()
