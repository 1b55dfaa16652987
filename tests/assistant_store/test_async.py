"""P1 from an asyncio daemon: ``await async_session.run_sync(create_invite, …)``, on engines set up by us and by it.

Each part has the database to itself: aiosqlite uses Python's own SQLite, and the locks of two SQLites in one process
do not hold against each other.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from assistant_store import create_invite, record_invite_use, upgrade
from outbox import configure_engine, open_engine
from tests.conftest import rows
from tests.outbox.listening import ear, woken

configured_or_plain = pytest.mark.parametrize("configured", [True, False], ids=["configured", "plain"])
new_invite = partial(create_invite, source_channel="telegram", contact_id="co-1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "assistant.db"
    engine = open_engine(f"sqlite:///{path}")
    upgrade(engine)
    engine.dispose()
    return path


def run(path: Path, configured: bool, work: Callable[[AsyncSession], Awaitable[None]]) -> None:
    async def with_session() -> None:
        async with async_session(path, configured) as session:
            await work(session)

    asyncio.run(with_session())


@asynccontextmanager
async def async_session(path: Path, configured: bool) -> AsyncIterator[AsyncSession]:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    if configured:
        configure_engine(engine.sync_engine)
    try:
        async with AsyncSession(engine) as session:
            yield session
    finally:
        await engine.dispose()


def invites_and_messages(path: Path) -> tuple[list[str], list[str]]:
    engine = open_engine(f"sqlite:///{path}")
    invites = [row["id"] for row in rows(engine, "SELECT id FROM assistant_ingress_invites ORDER BY id")]
    keys = [row["key"] for row in rows(engine, "SELECT key FROM outbox_messages ORDER BY seq")]
    engine.dispose()
    return invites, keys


@configured_or_plain
def test_an_invite_and_its_message_commit_together(path: Path, configured: bool) -> None:
    ids: list[str] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin():
            ids.append((await session.run_sync(new_invite)).invite.id)

    run(path, configured, work)

    assert invites_and_messages(path) == (ids, ids)


@configured_or_plain
def test_both_are_rolled_back_together(path: Path, configured: bool) -> None:
    async def work(session: AsyncSession) -> None:
        await session.run_sync(new_invite)
        await session.rollback()

    run(path, configured, work)

    assert invites_and_messages(path) == ([], [])


@configured_or_plain
def test_an_exception_takes_both_with_it(path: Path, configured: bool) -> None:
    async def work(session: AsyncSession) -> None:
        async with session.begin():
            await session.run_sync(new_invite)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(path, configured, work)

    assert invites_and_messages(path) == ([], [])


@configured_or_plain
def test_a_use_and_its_message_commit_together(path: Path, configured: bool) -> None:
    statuses: list[str | None] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin():
            invite = (await session.run_sync(new_invite)).invite
        async with session.begin():
            for _ in range(2):
                used = await session.run_sync(record_invite_use, invite.id, external_user_id="user-1")
                statuses.append(None if used is None else used.status)

    run(path, configured, work)

    invites, keys = invites_and_messages(path)
    assert statuses == ["redeemed", None]
    assert keys == invites * 2


def test_a_savepoint_rolled_back_takes_its_invite_and_message_with_it(path: Path) -> None:
    ids: list[str] = []

    async def work(session: AsyncSession) -> None:
        async with session.begin():
            async with session.begin_nested() as savepoint:
                await session.run_sync(new_invite)
                await savepoint.rollback()
            ids.append((await session.run_sync(new_invite)).invite.id)

    run(path, True, work)

    assert invites_and_messages(path) == (ids, ids)


@configured_or_plain
def test_the_wake_up_is_sent_after_the_commit(path: Path, configured: bool) -> None:
    arrived: list[int] = []

    with ear(path) as listener:

        async def work(session: AsyncSession) -> None:
            await session.run_sync(new_invite)
            arrived.append(woken(listener))
            await session.commit()
            arrived.append(woken(listener))

        run(path, configured, work)

    assert arrived == [0, 1]
