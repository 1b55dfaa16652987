"""Both stores merge by the same rules; neither may import the other, so each declares them."""

import assistant_store.invites.declaration
import assistant_store.invites.invite
import gateway_store.invites.declaration
import gateway_store.invites.invite
from outbox.mirroring.merge import Merge


def test_both_stores_declare_the_same_merge_of_an_invite() -> None:
    assert assistant_store.invites.declaration.INVITE == gateway_store.invites.declaration.INVITE


def test_the_declaration_fits_the_columns_of_both_stores() -> None:
    for store in (assistant_store, gateway_store):
        Merge(store.invites.declaration.INVITE, store.invites.invite.COLUMNS)
