"""Replay enqueues the current rows that were selected, page by page."""

import json
from typing import Any

import pytest
from freezegun import freeze_time
from sqlalchemy.orm import Session

from assistant_store import get_invite
from assistant_store.invites.invite import payload_of
from assistant_store.invites.replay import Selection, count_selected, replay_page
from outbox import OutboxFullError, open_engine
from outbox.pages import START, Place
from tests.conftest import Stores, write

HOUR = 3_600_000
MIDNIGHT = 1_704_067_200_000
"""2024-01-01"""


def three(stores: Stores) -> list[str]:
    """Invites changed at 0:00, 1:00 and 2:00; their ids grow."""
    ids = []
    for hour in range(3):
        with freeze_time(f"2024-01-01 0{hour}:00"):
            ids.append(stores.create().invite.id)
    write(stores.source, "UPDATE outbox_messages SET state = 'delivered', settled_at = 1")
    return ids


def replay(stores: Stores, selection: Selection, place: Place = START, limit: int = 100) -> list[str]:
    with Session(stores.source) as session, session.begin():
        return replay_page(session, selection, place=place, limit=limit).ids


def selected(stores: Stores, selection: Selection) -> list[str]:
    """The ids that are replayed; counting beforehand must agree."""
    with Session(stores.source) as session:
        count = count_selected(session, selection)
    ids = replay(stores, selection)
    assert count == len(ids)
    assert [row["key"] for row in stores.messages("origin = 'replay'")] == ids
    return ids


@pytest.mark.parametrize(
    ("given", "positions"),
    [
        ({}, [0, 1, 2]),
        ({"since": MIDNIGHT + HOUR}, [1, 2]),
        ({"since": MIDNIGHT + HOUR + 1}, [2]),
        ({"until": MIDNIGHT + HOUR}, [0]),
        ({"until": MIDNIGHT + HOUR + 1}, [0, 1]),
        ({"since": MIDNIGHT + 1, "until": MIDNIGHT + 2 * HOUR}, [1]),
        ({"since": MIDNIGHT + 3 * HOUR}, []),
    ],
)
def test_rows_are_selected_by_when_they_changed(stores: Stores, given: dict[str, Any], positions: list[int]) -> None:
    ids = three(stores)

    assert selected(stores, Selection(**given)) == [ids[position] for position in positions]


def test_rows_are_selected_by_id(stores: Stores) -> None:
    ids = three(stores)

    assert selected(stores, Selection(ids=[ids[2], ids[0], "unknown"])) == [ids[0], ids[2]]


def test_no_ids_select_nothing_and_a_window_narrows_them(stores: Stores) -> None:
    ids = three(stores)

    assert selected(stores, Selection(ids=[])) == []
    assert selected(stores, Selection(ids=ids[:2], since=MIDNIGHT + HOUR)) == [ids[1]]


def test_only_dead_selects_invites_of_which_a_message_is_dead(stores: Stores) -> None:
    ids = three(stores)
    write(stores.source, "UPDATE outbox_messages SET state = 'dead' WHERE key = :key", key=ids[1])
    columns = "key, version, shard, payload, enqueued_at, state, settled_at"
    write(
        stores.source,
        f"INSERT INTO outbox_messages (topic, {columns}) SELECT 'another', {columns} FROM outbox_messages",
    )
    write(stores.source, "UPDATE outbox_messages SET state = 'dead' WHERE topic = 'another'")

    assert selected(stores, Selection(only_dead=True)) == [ids[1]]


def test_pages_follow_each_other_by_id_until_none_is_left(stores: Stores) -> None:
    ids = three(stores)

    first = replay(stores, Selection(), limit=2)
    second = replay(stores, Selection(), place=Place(first[-1]), limit=2)
    third = replay(stores, Selection(), place=Place(second[-1]), limit=2)

    assert [first, second, third] == [ids[:2], ids[2:], []]


def test_a_replayed_message_is_the_row_as_it_is_now_under_its_own_version(stores: Stores) -> None:
    invite = stores.create().invite
    stores.revoke(invite.id)
    write(stores.source, "UPDATE outbox_messages SET state = 'delivered', settled_at = 1")

    replay(stores, Selection())

    (message,) = stores.messages("origin = 'replay'")
    with Session(stores.source) as session:
        current = get_invite(session, invite.id)
    assert current is not None
    assert (message["payload"], message["version"], message["state"]) == (
        payload_of(current),
        current.updated_at,
        "pending",
    )
    assert json.loads(message["payload"])["status"] == "revoked"


def test_replaying_changes_no_invite(stores: Stores) -> None:
    created = stores.create().invite

    replay(stores, Selection())

    with Session(stores.source) as session:
        assert get_invite(session, created.id) == created


def test_a_page_beyond_the_outboxs_limit_is_refused_as_a_whole(stores: Stores) -> None:
    three(stores)
    limited = open_engine(stores.source_url, max_unsettled=2)

    with pytest.raises(OutboxFullError), Session(limited) as session, session.begin():
        replay_page(session, Selection(), place=START, limit=3)
    limited.dispose()

    assert stores.messages("origin = 'replay'") == []
