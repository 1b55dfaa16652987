"""Engines on either database: what is not opened, and what their errors do not show."""

import re
import traceback
from typing import cast

import pytest
from sqlalchemy import Engine, create_engine, create_mock_engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import create_async_engine

from outbox import UnsupportedDriverError, configure_engine, open_engine, writing
from outbox.redact import reason_of
from tests.outbox.conftest import Outbox

HASH = "ab" * 32
COLUMNS = "topic, key, version, shard, payload, enqueued_at"


@pytest.mark.parametrize(
    "kind", ["mysql", "postgresql", "postgresql+asyncpg", "sqlite+aiosqlite", "sqlite+pysqlcipher"]
)
def test_another_database_system_or_driver_is_refused_without_the_password(kind: str) -> None:
    with pytest.raises(
        UnsupportedDriverError, match=f"cannot open a {re.escape(kind)} database; use sqlite:///PATH"
    ) as raised:
        open_engine(f"{kind}://me:secret@host/name")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("driver", ["mysql+pymysql", "postgresql+psycopg2", "postgresql+asyncpg", "sqlite+pysqlcipher"])
def test_an_engine_of_a_driver_that_cannot_be_served_is_refused(driver: str) -> None:
    # Only the driver itself is missing here: an engine is made without it, by what its own module would be.
    engine = create_mock_engine(f"{driver}://me:secret@host/name", lambda *_: None)

    with pytest.raises(UnsupportedDriverError, match=f"cannot serve an engine of {re.escape(driver)}") as raised:
        configure_engine(cast(Engine, engine))

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite+pysqlite://", "sqlite+aiosqlite://", "postgresql+psycopg://host/n"]
)
def test_an_engine_of_each_driver_that_is_served_is_taken(url: str) -> None:
    is_async = "aiosqlite" in url
    configure_engine(create_async_engine(url).sync_engine if is_async else create_engine(url))


def test_an_error_shows_no_parameters(box: Outbox) -> None:
    with pytest.raises(DBAPIError, match="missing") as raised, writing(box.engine) as connection:
        connection.execute(text("INSERT INTO missing VALUES (:hash)"), {"hash": HASH})

    assert HASH not in str(raised.value)


@pytest.mark.parametrize("made_elsewhere", [False, True])
def test_an_error_shows_no_value_of_the_row_that_the_database_refused(box: Outbox, made_elsewhere: bool) -> None:
    engine = box.open()
    if made_elsewhere:
        engine = create_engine(box.url)
        configure_engine(engine)

    with pytest.raises(IntegrityError, match=r"(?i)check constraint") as raised, engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO outbox_messages ({COLUMNS}) VALUES ('t', 'k', 1, 64, :payload, 1)"), {"payload": HASH}
        )
    engine.dispose()

    shown = "".join(traceback.format_exception(raised.value))
    assert HASH not in shown
    assert HASH[:8] not in reason_of(raised.value)
