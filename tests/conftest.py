"""Real databases for every test, as the product sets them up: two SQLite files, and again two of PostgreSQL.

A test that uses ``backend``, or anything that does, runs on each; one marked ``only`` names its database and why.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

import assistant_store
import gateway_store
from outbox import Message, open_engine, reading, writing
from tests.databases import BACKENDS, announce, store_urls
from tests.postgres import Cluster, new_folder

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

CONTACT = "co-1"


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores, upgraded, with the contact ``co-1`` at the gateway."""

    folder: Path
    source_url: str
    mirror_url: str
    source: Engine
    mirror: Engine

    def create(self, **given: Any) -> assistant_store.CreatedInvite:
        """An invite created and committed through the library."""
        with Session(self.source) as session, session.begin():
            wanted: dict[str, Any] = {"source_channel": "telegram", "contact_id": CONTACT} | given
            return assistant_store.create_invite(session, **wanted)

    def revoke(self, invite_id: str) -> assistant_store.Invite | None:
        with Session(self.source) as session, session.begin():
            return assistant_store.revoke_invite(session, invite_id)

    def use(self, invite_id: str, **given: Any) -> assistant_store.Invite | None:
        with Session(self.source) as session, session.begin():
            return assistant_store.record_invite_use(session, invite_id, **given)

    def add_contact(self, contact_id: str) -> None:
        with Session(self.mirror) as session, session.begin():
            gateway_store.upsert_contact(session, id=contact_id, display_name=contact_id)

    def mirrored(self, invite_id: str) -> gateway_store.Invite | None:
        with Session(self.mirror) as session:
            return gateway_store.get_invite(session, invite_id)

    def messages(self, where: str = "1 = 1") -> list[dict[str, Any]]:
        """Rows of ``outbox_messages`` in the order of ``seq``."""
        return rows(self.source, f"SELECT * FROM outbox_messages WHERE {where} ORDER BY seq")

    def states(self) -> list[str]:
        return [row["state"] for row in self.messages()]


def rows(engine: Engine, query: str) -> list[dict[str, Any]]:
    with reading(engine) as connection:
        return [dict(row._mapping) for row in connection.execute(text(query))]


def write(engine: Engine, statement: str, **values: Any) -> None:
    with writing(engine) as connection:
        connection.execute(text(statement), values)


def message_of(row: dict[str, Any]) -> Message:
    """The message that a relay would read from a row of ``outbox_messages``."""
    names = [name for name in Message._fields if name not in ("newer_dead_seq", "unreadable")]
    return Message(**{name: row[name] for name in names}, newer_dead_seq=None)


def allowed() -> None:
    """The fence of a relay that holds its leases."""


@contextmanager
def stores_at(folder: Path, source_url: str, mirror_url: str) -> Iterator[Stores]:
    source, mirror = open_engine(source_url), open_engine(mirror_url)
    try:
        assistant_store.upgrade(source)
        gateway_store.upgrade(mirror)
        made = Stores(folder, source_url, mirror_url, source, mirror)
        made.add_contact(CONTACT)
        yield made
    finally:
        source.dispose()
        mirror.dispose()


@contextmanager
def both_stores(folder: Path, backend: str = "sqlite") -> Iterator[Stores]:
    with store_urls(backend, folder) as urls, stores_at(folder, *urls) as made:
        yield made


@pytest.fixture(scope="session", autouse=True)
def no_thread_is_left() -> Iterator[None]:
    """One that waits for ever would keep the suite from ending, and say nothing of what it waits for."""
    yield
    left = [one for one in threading.enumerate() if one is not threading.main_thread() and not one.daemon]
    for one in left:
        one.join(60)
    frames = sys._current_frames()
    waiting = [one for one in left if one.is_alive() and one.ident in frames]
    assert not waiting, "\n".join("".join(traceback.format_stack(frames[one.ident or 0])) for one in waiting)


@pytest.fixture
def stores(tmp_path: Path, backend: str) -> Iterator[Stores]:
    with both_stores(tmp_path, backend) as made:
        yield made


def pytest_configure(config: pytest.Config) -> None:
    """One PostgreSQL server for the whole run: the processes of pytest-xdist find it in their environment."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell ignores it for what it runs in the background, and so would the commands that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "only(backend, because): what is tested exists on one kind of database only")
    if not hasattr(config, "workerinput"):
        cluster = Cluster(new_folder(), {"fsync": "off", "max_connections": "200"})
        config.add_cleanup(lambda: cluster.__exit__(None, None, None))
        announce(cluster.__enter__())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        marker = metafunc.definition.get_closest_marker("only")
        if marker is None:
            metafunc.parametrize("backend", BACKENDS)
        else:
            backend: str = marker.args[0]
            assert backend in BACKENDS
            assert marker.kwargs["because"]
            metafunc.parametrize("backend", [backend])
