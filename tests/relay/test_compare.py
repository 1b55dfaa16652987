"""Comparing two stores: each kind of difference by name, whole rows, and no trust in a single look."""

from collections.abc import Callable
from datetime import timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy import Connection, event

from relay.compare import compare, compare_ids
from relay.cures import Kind
from relay.differences import Comparison, Difference
from relay.topics import INVITES
from tests.conftest import Stores, write
from tests.relay.rig import drain_all, draining


def differences(stores: Stores, since: int | None = None) -> list[Difference]:
    return list(compare(stores.source, stores.mirror, Comparison(), since=since))


def mirrored_invite(stores: Stores) -> str:
    invite = stores.create(max_uses=3).invite
    with draining(stores) as drain:
        drain_all(drain)
    assert differences(stores) == []
    return invite.id


def at_gateway(assignment: str) -> Callable[[Stores], None]:
    return lambda stores: write(stores.mirror, f"UPDATE ingress_invites SET {assignment}")


def gone_here(stores: Stores) -> None:
    write(stores.source, "DELETE FROM assistant_ingress_invites")


def gone_here_and_closed_there(stores: Stores) -> None:
    gone_here(stores)
    write(stores.mirror, "UPDATE ingress_invites SET status = 'expired'")


def used_here_only(stores: Stores) -> None:
    write(stores.source, "UPDATE assistant_ingress_invites SET use_count = 1, updated_at = updated_at + 1")


def revoked_here_only(stores: Stores) -> None:
    write(stores.source, "UPDATE assistant_ingress_invites SET status = 'revoked', updated_at = updated_at + 1")


@pytest.mark.parametrize(
    ("drift", "kind", "field"),
    [
        (lambda s: write(s.mirror, "DELETE FROM ingress_invites"), Kind.MISSING, None),
        (lambda s: write(s.mirror, "DELETE FROM contacts"), Kind.CONTACT_MISSING, None),
        (gone_here, Kind.EXTRA, None),
        (revoked_here_only, Kind.STATUS_BEHIND, "status"),
        (used_here_only, Kind.STATUS_BEHIND, "use_count"),
        (at_gateway("updated_at = updated_at - 1"), Kind.STALE, "updated_at"),
        (at_gateway("note = 'other'"), Kind.FIELDS_DIFFER, "note"),
        (at_gateway("status = 'revoked'"), Kind.AHEAD, "status"),
        (at_gateway("use_count = 2"), Kind.AHEAD, "use_count"),
        (at_gateway("note = 'other', updated_at = updated_at + 1"), Kind.AHEAD, "note"),
        (gone_here_and_closed_there, Kind.EXTRA, None),
        (at_gateway("token_hash = 'other'"), Kind.FIELDS_DIFFER, "token_hash"),
        (at_gateway("voice_code_digits = 6"), Kind.FIELDS_DIFFER, "voice_code_digits"),
    ],
)
def test_each_kind_of_drift_is_named(
    stores: Stores, drift: Callable[[Stores], None], kind: Kind, field: str | None
) -> None:
    id_ = mirrored_invite(stores)
    drift(stores)
    (found,) = differences(stores)
    assert (found.id, found.kind, found.waiting) == (id_, kind, False)
    assert field in found.fields if field else found.fields == ()
    assert list(compare_ids(stores.source, stores.mirror, [id_], Comparison())) == [found]


@pytest.mark.parametrize("column", [name for name in INVITES.columns if name != "id"])
def test_a_difference_in_any_column_is_seen(stores: Stores, column: str) -> None:
    mirrored_invite(stores)
    if column == "contact_id":
        stores.add_contact("77")
    write(stores.mirror, f"UPDATE ingress_invites SET {column} = '77'")
    (found,) = differences(stores)
    assert found.fields == (column,)


def test_the_counts_add_up_by_kind_and_by_what_waits(stores: Stores) -> None:
    mirrored_invite(stores)
    stores.create()
    stores.create(contact_id="nobody")
    write(stores.mirror, "UPDATE ingress_invites SET note = 'x'")
    seen = Comparison()
    assert len(list(compare(stores.source, stores.mirror, seen))) == 3
    assert {kind: count for kind, count in seen.by_kind.items() if count} == {
        "missing": 1,
        "contact_missing": 1,
        "fields_differ": 1,
    }
    assert (seen.differences, seen.waiting, seen.assistant_rows, seen.gateway_rows) == (3, 2, 3, 1)


def test_since_takes_a_row_that_changed_on_either_side(stores: Stores) -> None:
    with freeze_time("2026-05-13T14:11:00Z") as frozen:
        mirrored_invite(stores)
        frozen.tick(timedelta(hours=1))
        now = int(frozen().timestamp() * 1_000)
        write(stores.mirror, "UPDATE ingress_invites SET note = 'x'")
        assert differences(stores, since=now) == []
        write(stores.mirror, "UPDATE ingress_invites SET updated_at = :now", now=now)
        assert len(differences(stores, since=now)) == 1
        assert differences(stores, since=now + 1) == []


def test_a_row_that_was_changed_and_mirrored_between_the_two_reads_is_no_difference(stores: Stores) -> None:
    id_ = mirrored_invite(stores)
    changes = iter(range(2))

    def change_before_the_mirror_is_read(connection: Connection, *_: object) -> None:
        """Both sides move on after the source was read and before the mirror is."""
        if next(changes, None) is not None:
            stores.use(id_)
            with draining(stores) as drain:
                drain_all(drain)

    event.listen(stores.mirror, "begin", change_before_the_mirror_is_read)
    found = differences(stores)
    event.remove(stores.mirror, "begin", change_before_the_mirror_is_read)
    assert next(changes, None) is None
    assert found == []
