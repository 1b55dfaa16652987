"""P5 where the row is gone: a deleted contact takes its invites along, and old copies may be on the way."""

import pytest
from sqlalchemy.orm import Session

import gateway_store
from tests.conftest import CONTACT, Stores, rows, write


def deliver(stores: Stores, *payloads: str) -> list[object]:
    with Session(stores.mirror) as session, session.begin():
        return list(gateway_store.mirror_batch(session.connection(), payloads))


def close(stores: Stores, invite_id: str, how: str) -> None:
    assert stores.revoke(invite_id) if how == "revoked" else stores.use(invite_id, external_user_id="u-1")


@pytest.mark.parametrize("how", ["revoked", "redeemed"])
def test_p05_a_late_copy_of_a_closed_invite_stays_closed_though_its_contact_was_deleted_meanwhile(
    stores: Stores, how: str
) -> None:
    invite = stores.create().invite
    close(stores, invite.id, how)
    active, closed = (message["payload"] for message in stores.messages())
    deliver(stores, active, closed)
    write(stores.mirror, f"DELETE FROM contacts WHERE id = '{CONTACT}'")
    assert stores.mirrored(invite.id) is None
    stores.add_contact(CONTACT)

    deliver(stores, active)
    late = stores.mirrored(invite.id)
    deliver(stores, closed)
    then = stores.mirrored(invite.id)

    assert late is not None
    assert (late.status, late.use_count) == (how, int(how == "redeemed"))
    (ours,) = rows(stores.source, "SELECT * FROM assistant_ingress_invites")
    assert then is not None
    assert {name: getattr(then, name) for name in ours} == ours


def test_p05_a_use_of_several_is_not_forgotten_with_the_row(stores: Stores) -> None:
    invite = stores.create(max_uses=3).invite
    stores.use(invite.id)
    fresh, used = (message["payload"] for message in stores.messages())
    deliver(stores, used)
    write(stores.mirror, f"DELETE FROM ingress_invites WHERE id = '{invite.id}'")

    deliver(stores, fresh)

    late = stores.mirrored(invite.id)
    assert late is not None
    assert (late.status, late.use_count) == ("active", 1)


def test_an_invite_never_used_or_closed_comes_back_as_it_was(stores: Stores) -> None:
    invite = stores.create().invite
    (payload,) = (message["payload"] for message in stores.messages())
    deliver(stores, payload)
    write(stores.mirror, "DELETE FROM ingress_invites")

    deliver(stores, payload)

    back = stores.mirrored(invite.id)
    assert back is not None
    assert (back.status, back.use_count) == ("active", 0)
    assert rows(stores.mirror, "SELECT * FROM ingress_invites_closed") == []
