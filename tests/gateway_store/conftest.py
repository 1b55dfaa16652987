"""The gateway's store on its own: upgraded, with the contact ``co-1``; or a database that is still empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import gateway_store
from outbox import open_engine
from tests.conftest import CONTACT
from tests.databases import MIRROR, database_url
from tests.gateway_store.rivals import Rivals


@pytest.fixture
def mirror_url(tmp_path: Path, backend: str) -> Iterator[str]:
    with database_url(backend, tmp_path, "gateway.db", MIRROR) as url:
        yield url


@pytest.fixture
def mirror(mirror_url: str) -> Iterator[Engine]:
    engine = open_engine(mirror_url)
    gateway_store.upgrade(engine)
    with Session(engine) as session, session.begin():
        gateway_store.upsert_contact(session, id=CONTACT, display_name="Ada")
    yield engine
    engine.dispose()


@pytest.fixture
def rivals(mirror_url: str, mirror: Engine) -> Iterator[Rivals]:
    both = Rivals(mirror_url)
    yield both
    both.close()


@pytest.fixture
def url(tmp_path: Path, backend: str) -> Iterator[str]:
    """A new database with nothing in it."""
    with database_url(backend, tmp_path, "gateway.db") as url:
        yield url
