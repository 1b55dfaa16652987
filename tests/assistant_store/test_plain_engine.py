"""P1 on an engine of the daemon's own, made by ``create_engine`` and not by ``open_engine``."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from assistant_store import create_invite, record_invite_use, revoke_invite
from outbox.database.sqlite import sqlite_module
from tests.assistant_store.test_atomic import counts
from tests.conftest import Stores, write
from tests.outbox.listening import hearing

BOTH_KEPT = (1, 1)
Make = Callable[..., Engine]
only_postgresql = pytest.mark.only("postgresql", because="SQLite knows one isolation, and it is serializable")


@pytest.fixture
def plain(stores: Stores, backend: str) -> Iterator[Make]:
    made: list[Engine] = []

    def make(**options: Any) -> Engine:
        driver = {"module": sqlite_module()} if backend == "sqlite" else {}
        made.append(create_engine(stores.source_url, **driver, **options))
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def new_invite(session: Session, **given: Any) -> str:
    return create_invite(session, source_channel="telegram", contact_id="co-1", **given).invite.id


def test_an_invite_and_its_message_commit_together(stores: Stores, plain: Make) -> None:
    with Session(plain()) as session, session.begin():
        invite_id = new_invite(session)

    (message,) = stores.messages()
    assert (counts(stores), message["key"]) == (BOTH_KEPT, invite_id)


def test_both_are_rolled_back_together(stores: Stores, plain: Make) -> None:
    with Session(plain()) as session:
        new_invite(session)
        session.rollback()

    assert counts(stores) == (0, 0)


def test_a_use_is_rolled_back_with_its_message(stores: Stores, plain: Make) -> None:
    invite = stores.create().invite
    with Session(plain()) as session:
        assert record_invite_use(session, invite.id) is not None
        session.rollback()

    assert stores.use(invite.id) is not None
    assert len(stores.messages()) == 2


def test_an_error_that_the_daemon_catches_leaves_the_rest_of_its_transaction(stores: Stores, plain: Make) -> None:
    write(stores.source, "CREATE UNIQUE INDEX one_friend ON assistant_ingress_invites (friend_name)")

    with Session(plain()) as session, session.begin():
        new_invite(session, friend_name="Ada")
        with pytest.raises(IntegrityError):
            new_invite(session, friend_name="Ada")

    assert counts(stores) == BOTH_KEPT


def test_a_wake_up_comes_with_the_commit(stores: Stores, plain: Make) -> None:
    with hearing(stores.source) as heard, Session(plain()) as session:
        new_invite(session)
        before = heard()
        session.commit()

        assert (before, heard()) == (0, 1)


def test_the_same_statements_again_and_again_on_one_connection(stores: Stores, plain: Make) -> None:
    # From the fifth time on psycopg has them prepared.
    with Session(plain()) as session, session.begin():
        for _ in range(12):
            assert revoke_invite(session, new_invite(session)) is not None

    assert counts(stores) == (12, 24)


@only_postgresql
@pytest.mark.parametrize("isolation", ["REPEATABLE READ", "SERIALIZABLE"])
def test_under_a_stricter_isolation_the_later_of_two_uses_is_an_error_and_counts_nothing(
    stores: Stores, plain: Make, isolation: str
) -> None:
    invite = stores.create().invite
    engine = plain(isolation_level=isolation)

    with Session(engine) as late:
        new_invite(late)
        with Session(engine) as session, session.begin():
            assert record_invite_use(session, invite.id) is not None
        with pytest.raises(OperationalError, match="could not serialize"):
            record_invite_use(late, invite.id)

    assert counts(stores) == (1, 2)


@pytest.mark.only("postgresql", because="on SQLite the savepoint, or `BEGIN IMMEDIATE` before it, is the transaction")
def test_an_engine_that_commits_each_statement_by_itself_is_refused_by_the_database(
    stores: Stores, plain: Make
) -> None:
    invite = stores.create().invite
    engine = plain(isolation_level="AUTOCOMMIT")

    for work in (new_invite, lambda session: revoke_invite(session, invite.id)):
        with Session(engine) as session, pytest.raises(DBAPIError, match="SAVEPOINT can only be used in"):
            work(session)

    assert counts(stores) == BOTH_KEPT
    assert stores.revoke(invite.id) is not None
