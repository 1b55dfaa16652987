"""P1: an invite's change and its message commit together or not at all, whatever the daemon does around it."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from assistant_store import create_invite, get_invite, record_invite_use, revoke_invite
from outbox import OutboxFullError, open_engine
from tests.conftest import Stores, rows, write
from tests.crash import run_killed_at_each_step

BOTH = """
    SELECT (SELECT count(*) FROM assistant_ingress_invites) AS invites,
           (SELECT count(*) FROM outbox_messages) AS messages
"""


def create_one(url: str) -> None:
    engine = open_engine(url)
    with Session(engine) as session, session.begin():
        create_invite(session, source_channel="telegram", contact_id="co-1")
    engine.dispose()


def use_one(url: str, invite_id: str) -> None:
    engine = open_engine(url)
    with Session(engine) as session, session.begin():
        record_invite_use(session, invite_id, external_user_id="user-1")
    engine.dispose()


def counts(stores: Stores) -> tuple[int, int]:
    (row,) = rows(stores.source, BOTH)
    return row["invites"], row["messages"]


def test_an_invite_and_its_message_commit_together(stores: Stores) -> None:
    created = stores.create()

    (message,) = stores.messages()
    assert counts(stores) == (1, 1)
    assert (message["topic"], message["key"]) == ("invite.mirror", created.invite.id)


def test_creating_never_commits_the_callers_transaction(stores: Stores) -> None:
    with Session(stores.source) as session:
        create_invite(session, source_channel="telegram", contact_id="co-1")
        session.rollback()

    assert counts(stores) == (0, 0)


def test_a_larger_transaction_that_fails_later_takes_the_invite_and_its_message_with_it(stores: Stores) -> None:
    write(stores.source, "CREATE TABLE friends (name TEXT NOT NULL)")

    def fail_late() -> None:
        with Session(stores.source) as session, session.begin():
            session.execute(text("INSERT INTO friends VALUES ('a')"))
            create_invite(session, source_channel="telegram", contact_id="co-1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_late()

    assert counts(stores) == (0, 0)
    assert rows(stores.source, "SELECT * FROM friends") == []


def test_a_savepoint_rolled_back_takes_its_invite_and_message_with_it_and_no_others(stores: Stores) -> None:
    with Session(stores.source) as session, session.begin():
        kept = create_invite(session, source_channel="telegram", contact_id="co-1").invite
        with session.begin_nested() as savepoint:
            create_invite(session, source_channel="telegram", contact_id="co-1")
            revoke_invite(session, kept.id)
            savepoint.rollback()

    assert counts(stores) == (1, 1)
    with Session(stores.source) as session:
        assert get_invite(session, kept.id) == kept


def test_a_change_rolled_back_leaves_the_row_and_no_message(stores: Stores) -> None:
    invite = stores.create().invite
    with Session(stores.source) as session:
        revoke_invite(session, invite.id)
        session.rollback()

        assert get_invite(session, invite.id) == invite
    assert len(stores.messages()) == 1


def test_an_outbox_at_its_limit_creates_no_invite_without_a_message(stores: Stores) -> None:
    limited = open_engine(stores.source_url, max_unsettled=1)
    stores.create()

    with pytest.raises(OutboxFullError), Session(limited) as session, session.begin():
        create_invite(session, source_channel="telegram", contact_id="co-1")
    limited.dispose()

    assert counts(stores) == (1, 1)


def test_a_caller_that_goes_on_after_a_full_outbox_commits_neither_invite_nor_message(stores: Stores) -> None:
    limited = open_engine(stores.source_url, max_unsettled=1)

    with Session(limited) as session, session.begin():
        kept = create_invite(session, source_channel="telegram", contact_id="co-1").invite
        with pytest.raises(OutboxFullError):
            create_invite(session, source_channel="telegram", contact_id="co-1")
        with pytest.raises(OutboxFullError):
            revoke_invite(session, kept.id)
    limited.dispose()

    assert counts(stores) == (1, 1)
    with Session(stores.source) as session:
        assert get_invite(session, kept.id) == kept


def test_a_caller_that_goes_on_after_an_error_of_the_database_keeps_the_rest_of_its_transaction(
    stores: Stores,
) -> None:
    write(stores.source, "CREATE UNIQUE INDEX one_friend ON assistant_ingress_invites (friend_name)")

    with Session(stores.source) as session, session.begin():
        create_invite(session, source_channel="telegram", contact_id="co-1", friend_name="Ada")
        with pytest.raises(IntegrityError):
            create_invite(session, source_channel="telegram", contact_id="co-1", friend_name="Ada")
        create_invite(session, source_channel="telegram", contact_id="co-1")

    assert counts(stores) == (2, 2)


def test_a_row_whose_message_the_database_refuses_is_not_kept_either(stores: Stores) -> None:
    write(stores.source, "CREATE UNIQUE INDEX one_key ON outbox_messages (key)")
    invite = stores.create().invite

    with Session(stores.source) as session, session.begin():
        with pytest.raises(IntegrityError):
            revoke_invite(session, invite.id)
        assert get_invite(session, invite.id) == invite

    assert counts(stores) == (1, 1)
    with Session(stores.source) as session:
        assert get_invite(session, invite.id) == invite


def test_a_daemon_killed_at_any_step_of_creating_leaves_both_or_neither(stores: Stores) -> None:
    left: list[tuple[int, int]] = []

    def look_and_clear() -> tuple[str]:
        left.append(counts(stores))
        write(stores.source, "DELETE FROM assistant_ingress_invites")
        write(stores.source, "DELETE FROM outbox_messages")
        return (stores.source_url,)

    kills = run_killed_at_each_step(create_one, look_and_clear)
    look_and_clear()

    # BEGIN, two inserts and the commit at least; the last run was not killed.
    assert kills >= 4
    assert left == [(0, 0)] * (kills + 1) + [(1, 1)]


def test_a_daemon_killed_at_any_step_of_a_use_leaves_both_or_neither(stores: Stores) -> None:
    created: list[str] = []

    def check_last() -> tuple[str, int]:
        with Session(stores.source) as session:
            invite = get_invite(session, created[-1])
        assert invite is not None
        return invite.status, len(stores.messages(f"key = '{created[-1]}'"))

    def arrange() -> tuple[str, str]:
        if created:
            assert check_last() == ("active", 1)
        created.append(stores.create().invite.id)
        return stores.source_url, created[-1]

    kills = run_killed_at_each_step(use_one, arrange)

    assert kills >= 4
    assert check_last() == ("redeemed", 2)
