"""Rows that COPY cannot add, under row security and through asyncio, or must not draw before they are seen coming."""

import asyncio
from collections.abc import Iterator

from sqlalchemy.ext.asyncio import create_async_engine

from gateway_store import Mirrored, MirrorOutcome, mirror_batch
from gateway_store.invites.mirror import mirror_and_commit
from outbox import configure_engine, open_engine, writing
from outbox.database.rows import Insert
from tests.conftest import Stores, rows, write
from tests.databases import plain_role
from tests.gateway_store.examples import payload

TWO = [payload(id="a"), payload(id="b")]


def created(results: list[object]) -> list[bool]:
    return [isinstance(one, MirrorOutcome) and one.status is Mirrored.CREATED for one in results]


def test_p04_rows_arrive_under_row_security_which_copy_refuses(stores: Stores) -> None:
    write(stores.mirror, "ALTER TABLE ingress_invites ENABLE ROW LEVEL SECURITY")
    write(stores.mirror, "CREATE POLICY everything ON ingress_invites USING (true) WITH CHECK (true)")
    with plain_role(stores.mirror_url, 5) as url:
        engine = open_engine(url, relay=True, create=False)
        results = mirror_and_commit(engine, TWO)
        engine.dispose()
    assert created([*results]) == [True, True]
    assert len(rows(stores.mirror, "SELECT id FROM ingress_invites")) == 2


def test_p04_rows_arrive_through_an_asyncio_engine(stores: Stores) -> None:
    async def mirror() -> list[object]:
        engine = create_async_engine(stores.mirror_url.replace("+psycopg", "+psycopg_async"))
        configure_engine(engine.sync_engine)
        async with engine.begin() as connection:
            results = await connection.run_sync(mirror_batch, TWO)
        await engine.dispose()
        return [*results]

    assert created(asyncio.run(mirror())) == [True, True]


def test_a_transaction_has_its_number_before_copy_draws_the_first_seq(stores: Stores) -> None:
    """Else the horizon would pass these messages, and find them only at its next whole read."""
    numbered: list[int] = []

    class Watched(list[tuple[object, ...]]):
        def __iter__(self) -> Iterator[tuple[object, ...]]:
            own = f"SELECT count(*) AS held FROM pg_locks WHERE locktype = 'transactionid' AND pid = {pid}"
            numbered.extend(row["held"] for row in rows(stores.source, own))
            return super().__iter__()

    insert = Insert("outbox_messages", ("topic", "key", "version", "shard", "payload", "origin", "enqueued_at"))
    with writing(stores.source) as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        insert.run(connection, Watched(("t", key, 1, 0, "{}", "live", 1) for key in ("a", "b")))
    assert numbered == [1]
