"""The gateway's store on its own: one upgraded SQLite file with the contact ``co-1``."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import gateway_store
from outbox import open_engine
from tests.conftest import CONTACT


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'gateway.db'}")
    gateway_store.upgrade(engine)
    with Session(engine) as session, session.begin():
        gateway_store.upsert_contact(session, id=CONTACT, display_name="Ada")
    yield engine
    engine.dispose()
