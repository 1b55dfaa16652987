"""Using, revoking, expiring: one conditional change, and a message exactly if there was one."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy.orm import Session

from assistant_store import InvalidInviteError, Invite, expire_invite, get_invite, record_invite_use, revoke_invite
from outbox.clock import now_ms
from tests.conftest import Stores, write

Change = Callable[[Session, str], Invite | None]
every_change = pytest.mark.parametrize(
    "change", [record_invite_use, revoke_invite, expire_invite], ids=lambda change: change.__name__
)


def apply(stores: Stores, change: Change, invite_id: str) -> Invite | None:
    with Session(stores.source) as session, session.begin():
        return change(session, invite_id)


def stored(stores: Stores, invite_id: str) -> Invite | None:
    with Session(stores.source) as session:
        return get_invite(session, invite_id)


@pytest.mark.parametrize(
    ("change", "status"), [(record_invite_use, "redeemed"), (revoke_invite, "revoked"), (expire_invite, "expired")]
)
def test_a_change_returns_the_row_as_it_stands_and_enqueues_it(stores: Stores, change: Change, status: str) -> None:
    invite = stores.create().invite

    changed = apply(stores, change, invite.id)

    assert changed is not None
    assert changed.status == status
    assert changed == stored(stores, invite.id)
    assert [row["version"] for row in stores.messages()] == [invite.updated_at, changed.updated_at]


@every_change
@pytest.mark.parametrize("status", ["redeemed", "revoked", "expired"])
def test_an_invite_that_is_not_active_is_not_changed_and_nothing_is_enqueued(
    stores: Stores, change: Change, status: str
) -> None:
    invite = stores.create().invite
    write(stores.source, f"UPDATE assistant_ingress_invites SET status = '{status}'")
    before = stored(stores, invite.id)

    assert apply(stores, change, invite.id) is None

    assert stored(stores, invite.id) == before
    assert len(stores.messages()) == 1


@every_change
def test_an_unknown_invite_is_none_and_nothing_is_enqueued(stores: Stores, change: Change) -> None:
    assert apply(stores, change, "unknown") is None

    assert stores.messages() == []


def test_the_last_use_redeems_and_those_before_do_not(stores: Stores) -> None:
    invite = stores.create(max_uses=3).invite

    used = [stores.use(invite.id) for _ in range(4)]

    assert [one and (one.use_count, one.status) for one in used] == [
        (1, "active"),
        (2, "active"),
        (3, "redeemed"),
        None,
    ]
    assert len(stores.messages()) == 4


def test_a_use_keeps_who_used_it_and_when(stores: Stores) -> None:
    invite = stores.create().invite

    with freeze_time("2024-01-01"), Session(stores.source) as session, session.begin():
        # Created later than the frozen clock: the time of use is the clock's all the same.
        used = record_invite_use(session, invite.id, external_user_id="user-1", external_chat_id="chat-1")
        now = now_ms()

    assert used is not None
    assert (used.redeemed_by_external_user_id, used.redeemed_by_external_chat_id, used.redeemed_at) == (
        "user-1",
        "chat-1",
        now,
    )


@pytest.mark.parametrize(("seconds", "status"), [(59, "redeemed"), (60, None), (61, None)])
def test_an_invite_whose_time_is_over_cannot_be_used(stores: Stores, seconds: int, status: str | None) -> None:
    with freeze_time("2024-01-01") as clock:
        invite = stores.create(expires_in=timedelta(minutes=1)).invite
        clock.tick(timedelta(seconds=seconds))

        used = stores.use(invite.id)

    assert (used and used.status) == status
    assert len(stores.messages()) == (1 if status is None else 2)


def test_an_invite_with_all_its_uses_gone_is_not_used_though_its_row_says_active(stores: Stores) -> None:
    invite = stores.create(max_uses=2).invite
    write(stores.source, "UPDATE assistant_ingress_invites SET use_count = 2")

    assert stores.use(invite.id) is None


def test_an_invite_can_be_revoked_after_its_time(stores: Stores) -> None:
    with freeze_time("2024-01-01") as clock:
        invite = stores.create(expires_in=timedelta(minutes=1)).invite
        clock.tick(timedelta(days=1))

        revoked = stores.revoke(invite.id)

    assert revoked is not None


@pytest.mark.parametrize("then", ["2024-01-01", "2023-01-01", "2025-01-01"], ids=["stands", "steps back", "moves on"])
def test_updated_at_grows_strictly_whatever_the_clock_does(stores: Stores, then: str) -> None:
    with freeze_time("2024-01-01"):
        invite = stores.create(max_uses=5, expires_in=timedelta(days=900)).invite
    with freeze_time(then):
        changed = [stores.use(invite.id), stores.use(invite.id), stores.revoke(invite.id)]
        now = now_ms()

    versions = [one.updated_at for one in (invite, *changed) if one is not None]
    first = max(now, invite.updated_at + 1)
    assert versions == [invite.updated_at, first, first + 1, first + 2]
    assert [row["version"] for row in stores.messages()] == versions


@pytest.mark.parametrize(("text", "problem"), [("a\x00b", "NUL"), ("a\ud800b", "surrogate"), ("x" * 16_385, "at most")])
@pytest.mark.parametrize("name", ["external_user_id", "external_chat_id"])
def test_a_use_by_an_id_that_no_mirror_could_store_is_refused_and_changes_nothing(
    stores: Stores, name: str, text: str, problem: str
) -> None:
    invite = stores.create().invite

    with pytest.raises(InvalidInviteError, match=f"cannot record the use: {name} must .*{problem}") as raised:
        stores.use(invite.id, **{name: text})

    assert text not in str(raised.value)
    assert stored(stores, invite.id) == invite
    assert len(stores.messages()) == 1
