"""Days on which something outside went wrong: a restored copy, text that is no UTF-8."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

import assistant_store
from outbox import DELIVERED, OutboxFullError, RetryPolicy, open_engine, writing
from outbox.database.sqlite import sqlite_module, sqlite_path
from outbox.message import Destination
from outbox.settle import Judged, settle
from tests.conftest import Stores, message_of, rows, write
from tests.databases import copied
from tests.system.processes import relay, running_relay

NUMBER_FROM_1 = {
    "sqlite": "DELETE FROM sqlite_sequence",
    "postgresql": "ALTER TABLE outbox_messages ALTER COLUMN seq RESTART",
}
POLICY = RetryPolicy(give_up_after=timedelta(days=1), longest_wait=timedelta(minutes=10))


def test_p04_a_seq_given_to_another_message_after_a_restore_is_not_settled_in_its_place(
    stores: Stores, backend: str
) -> None:
    stores.create()
    in_hand = message_of(stores.messages()[0])
    write(stores.source, "DELETE FROM outbox_messages")
    write(stores.source, NUMBER_FROM_1[backend])
    other = stores.create().invite
    write(
        stores.source, "INSERT INTO outbox_leases VALUES ('gateway', :shard, 'me', 't', 0, 15000)", shard=in_hand.shard
    )

    with writing(stores.source) as connection:
        settle(connection, Destination.GATEWAY, {in_hand.shard: "t"}, [Judged(in_hand, DELIVERED)], POLICY, now=1)

    (message,) = stores.messages()
    assert (message["seq"], message["key"], message["state"]) == (in_hand.seq, other.id, "pending")


@pytest.mark.parametrize("change", ["create", "use", "revoke", "expire"])
def test_p01_a_change_refused_by_a_full_outbox_leaves_nothing_though_the_caller_goes_on(
    stores: Stores, change: str
) -> None:
    invite = stores.create().invite
    before = rows(stores.source, "SELECT * FROM assistant_ingress_invites")
    full = open_engine(stores.source_url, max_unsettled=1)

    changes: dict[str, Callable[[Session], object]] = {
        "create": lambda session: assistant_store.create_invite(session, source_channel="a", contact_id="co-1"),
        "use": lambda session: assistant_store.record_invite_use(session, invite.id),
        "revoke": lambda session: assistant_store.revoke_invite(session, invite.id),
        "expire": lambda session: assistant_store.expire_invite(session, invite.id),
    }

    with Session(full) as session, session.begin(), pytest.raises(OutboxFullError):
        changes[change](session)
    full.dispose()

    assert rows(stores.source, "SELECT * FROM assistant_ingress_invites") == before
    assert len(stores.messages()) == 1


@pytest.mark.only("sqlite", because="PostgreSQL stores no text that is not in its encoding")
def test_p08_text_that_is_no_utf8_in_the_outbox_harms_its_own_message_alone(stores: Stores) -> None:
    write(
        stores.source,
        """
        INSERT INTO outbox_messages (topic, key, version, shard, payload, enqueued_at)
        VALUES ('invite.mirror', CAST(x'ff' AS TEXT), 1, 5, CAST(x'fe' AS TEXT), 1)
        """,
    )
    good = stores.create().invite

    ended = relay(stores, "run", "--until-empty")

    assert ended.code == 1, "a dead letter is left"
    assert stores.states() == ["dead", "delivered"]
    assert stores.mirrored(good.id) is not None


@pytest.mark.only("sqlite", because="PostgreSQL stores no text that is not in its encoding")
def test_p08_text_that_is_no_utf8_at_the_gateway_holds_up_nobody(stores: Stores) -> None:
    odd, good = stores.create(note="x").invite, stores.create().invite
    assert relay(stores, "run", "--until-empty").code == 0
    write(stores.mirror, f"UPDATE ingress_invites SET note = CAST(x'ff' AS TEXT) WHERE id = '{odd.id}'")
    stores.revoke(odd.id)
    stores.revoke(good.id)

    assert relay(stores, "run", "--until-empty").code == 0

    assert [getattr(stores.mirrored(one.id), "status", None) for one in (odd, good)] == ["revoked", "revoked"]
    assert relay(stores, "verify").code == 0


def test_a_message_of_a_wrong_type_is_refused_by_the_table(stores: Stores, backend: str) -> None:
    stores.create()
    words = {"sqlite": "cannot store", "postgresql": "invalid input syntax"}[backend]
    for column, value in (("attempts", "'x'"), ("enqueued_at", "'yesterday'"), ("shard", "'1.5'"), ("version", "'v'")):
        with pytest.raises(Exception, match=words):
            write(stores.source, f"UPDATE outbox_messages SET {column} = {value}")


def test_a_dead_message_with_markup_and_control_characters_is_shown_as_it_is(stores: Stores) -> None:
    invite = stores.create(note="see [/home/x] and [bold]link[/bold] \x1b[31m", contact_id="nobody").invite
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1, last_error = '\x1b[2J [/x]'")

    shown = relay(stores, "dead", "show", "1", COLUMNS="500")
    listed = relay(stores, "dead", "list")

    assert (shown.code, listed.code) == (0, 0)
    assert "[/home/x] and [bold]link[/bold]" in shown.out
    assert invite.id in listed.out
    assert "\x1b" not in shown.out + listed.out


def test_p04_a_relay_left_running_through_a_restore_mirrors_what_the_restored_database_has(stores: Stores) -> None:
    kept = stores.create().invite
    with copy_of(stores.source) as restore, running_relay(stores, RELAY_POLL_INTERVAL="0.2") as started:
        started.wait_until_delivered(kept.id)
        stores.source.dispose()
        restore()
        later = stores.create().invite
        started.wait_until_delivered(later.id)
        assert started.terminate() == 0

    assert relay(stores, "verify").code == 0
    assert set(stores.states()) == {"delivered"}


@contextmanager
def copy_of(engine: Engine) -> Iterator[Callable[[], None]]:
    """Copies the database as it is now; calling what is given puts the copy in its place, under whoever uses it."""
    path = sqlite_path(engine)
    if path is None:
        engine.dispose()
        with copied(engine.url.render_as_string(hide_password=False)) as restore:
            yield restore
        return
    copy = path.with_name("copy.db")
    with closing(sqlite_module().connect(path)) as connection:
        connection.execute("VACUUM INTO ?", (str(copy),))

    def put_in_place() -> None:
        for ending in ("", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)
        copy.rename(path)

    yield put_in_place
