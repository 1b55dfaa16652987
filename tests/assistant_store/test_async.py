"""P1 from an asyncio daemon: ``await async_session.run_sync(create_invite, …)``, on engines set up by us and by it.

Each part has an SQLite file to itself: aiosqlite uses Python's own SQLite, and the locks of two SQLites in one process
do not hold against each other.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from assistant_store import create_invite, record_invite_use, upgrade
from outbox import configure_engine, open_engine
from tests.conftest import rows, write
from tests.outbox.listening import hearing

configured_or_plain = pytest.mark.parametrize("configured", [True, False], ids=["configured", "plain"])
new_invite = partial(create_invite, source_channel="telegram", contact_id="co-1")


@pytest.fixture
def store(url: str) -> str:
    engine = open_engine(url)
    upgrade(engine)
    engine.dispose()
    return url


def run(url: str, configured: bool, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
    async def with_session() -> None:
        async with async_session(url, configured) as session:
            await work(session)

    asyncio.run(with_session())


@asynccontextmanager
async def async_session(url: str, configured: bool) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(url.replace("sqlite:", "sqlite+aiosqlite:"))
    if configured:
        configure_engine(engine.sync_engine)
    try:
        async with AsyncSession(engine) as session:
            yield session
    finally:
        await engine.dispose()


def invites_and_messages(url: str) -> tuple[list[str], list[str]]:
    engine = open_engine(url)
    invites = [row["id"] for row in rows(engine, "SELECT id FROM assistant_ingress_invites ORDER BY id")]
    keys = [row["key"] for row in rows(engine, "SELECT key FROM outbox_messages ORDER BY seq")]
    engine.dispose()
    return invites, keys


@configured_or_plain
def test_an_invite_and_its_message_commit_together(store: str, configured: bool) -> None:
    ids: list[str] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin():
            ids.append((await session.run_sync(new_invite)).invite.id)

    run(store, configured, work)

    assert invites_and_messages(store) == (ids, ids)


@configured_or_plain
def test_both_are_rolled_back_together(store: str, configured: bool) -> None:
    async def work(session: AsyncSession) -> None:
        await session.run_sync(new_invite)
        await session.rollback()

    run(store, configured, work)

    assert invites_and_messages(store) == ([], [])


@configured_or_plain
def test_an_exception_takes_both_with_it(store: str, configured: bool) -> None:
    async def work(session: AsyncSession) -> None:
        async with session.begin():
            await session.run_sync(new_invite)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(store, configured, work)

    assert invites_and_messages(store) == ([], [])


@configured_or_plain
def test_a_use_and_its_message_commit_together(store: str, configured: bool) -> None:
    statuses: list[str | None] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin():
            invite = (await session.run_sync(new_invite)).invite
        async with session.begin():
            for _ in range(2):
                used = await session.run_sync(record_invite_use, invite.id, external_user_id="user-1")
                statuses.append(None if used is None else used.status)

    run(store, configured, work)

    invites, keys = invites_and_messages(store)
    assert statuses == ["redeemed", None]
    assert keys == invites * 2


def savepoint_rolled_back(url: str, configured: bool) -> None:
    ids: list[str] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin():
            async with session.begin_nested() as savepoint:
                await session.run_sync(new_invite)
                await savepoint.rollback()
            ids.append((await session.run_sync(new_invite)).invite.id)

    run(url, configured, work)

    assert invites_and_messages(url) == (ids, ids)


def test_a_savepoint_rolled_back_takes_its_invite_and_message_with_it(store: str) -> None:
    savepoint_rolled_back(store, configured=True)


@pytest.mark.only("postgresql", because="SQLite's driver begins no transaction at a savepoint unless configured")
def test_a_savepoint_rolled_back_on_a_plain_engine_takes_both_with_it(store: str) -> None:
    savepoint_rolled_back(store, configured=False)


@configured_or_plain
def test_an_error_that_the_daemon_catches_takes_neither_the_row_nor_the_message_into_the_commit(
    store: str, configured: bool
) -> None:
    engine = open_engine(store)
    write(engine, "CREATE UNIQUE INDEX one_friend ON assistant_ingress_invites (friend_name)")
    engine.dispose()
    named = partial(new_invite, friend_name="Ada")
    ids: list[str] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin():
            ids.append((await session.run_sync(named)).invite.id)
            with pytest.raises(IntegrityError):
                await session.run_sync(named)
            ids.append((await session.run_sync(new_invite)).invite.id)

    run(store, configured, work)

    invites, keys = invites_and_messages(store)
    assert (invites, keys) == (sorted(ids), ids)


@configured_or_plain
def test_one_wake_up_is_sent_and_after_the_commit(store: str, configured: bool) -> None:
    arrived: list[int] = []

    with hearing(open_engine(store)) as heard:

        async def work(session: AsyncSession) -> None:
            await session.run_sync(new_invite)
            await session.run_sync(new_invite)
            arrived.append(heard())
            await session.commit()
            arrived.append(heard())

        run(store, configured, work)

    assert arrived == [0, 1]
