"""Rows that the table refuses are found by halves, so that a batch of many with one of them is nearly as cheap (P8)."""

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session

from gateway_store import Invite, MirrorOutcome, StoredRowError, mirror_batch
from gateway_store.invites.merge import closing
from gateway_store.invites.mirror import mirror_and_commit
from tests.conftest import write
from tests.gateway_store.examples import (
    LOWEST_TO_HIGHEST,
    RECORDED,
    REDEEMED,
    deliver,
    merged,
    payload,
    rows_of_one_invite,
    stored,
)
from tests.gateway_store.rivals import Rivals
from tests.gateway_store.test_mirror_batch import ids
from tests.gateway_store.test_mirror_refused_rows import ONE_TOKEN

ROWS = 500
# Each level of halves, and their two parts.
MOST_FOR_ONE = 2 * math.ceil(math.log2(ROWS))
LATER = RECORDED["updatedAt"] + 1

Mirror = Callable[[Engine, list[Any]], list[Any]]


def in_the_callers_transaction(engine: Engine, batch: list[Any]) -> list[Any]:
    with Session(engine) as session, session.begin():
        return mirror_batch(session.connection(), batch)


WAYS = [mirror_and_commit, in_the_callers_transaction]


def batch_with(bad: set[int], size: int = ROWS) -> list[Any]:
    """New invites, of which the numbers in ``bad`` have the token of one that is there; in no order."""
    batch = [
        payload(id=f"inv-{number:04}", tokenHash=RECORDED["tokenHash"] if number in bad else f"{number:064}")
        for number in range(size)
    ]
    return random.Random(1).sample(batch, size)  # noqa: S311 - no secret


@contextmanager
def counted(engine: Engine) -> Iterator[Counter[str]]:
    counter: Counter[str] = Counter()

    def savepoint(*_: object) -> None:
        counter["savepoints"] += 1

    def begin(*_: object) -> None:
        counter["transactions"] += 1

    event.listen(engine, "savepoint", savepoint)
    event.listen(engine, "begin", begin)
    try:
        yield counter
    finally:
        event.remove(engine, "savepoint", savepoint)
        event.remove(engine, "begin", begin)


def expect_refused(results: list[Any], batch: list[Any], bad: set[int]) -> None:
    refused = {int(one["id"][-4:]) for one, result in zip(batch, results, strict=True) if isinstance(result, Exception)}
    assert refused == bad
    for one, result in zip(batch, results, strict=True):
        assert isinstance(result, StoredRowError) or result.invite.id == one["id"]


@pytest.fixture
def strict(mirror: Engine) -> Engine:
    """A table that refuses a token twice, and has one already."""
    write(mirror, ONE_TOKEN)
    deliver(mirror, RECORDED)
    return mirror


@pytest.mark.parametrize("mirrored", WAYS)
@pytest.mark.parametrize("bad", [{0}, {ROWS // 2}, {ROWS - 1}, {137}])
def test_one_refused_row_among_many_costs_the_logarithm_of_their_number(
    strict: Engine, mirrored: Mirror, bad: set[int]
) -> None:
    batch = batch_with(bad)
    with counted(strict) as count:
        results = mirrored(strict, batch)
    expect_refused(results, batch, bad)
    assert len(ids(strict)) == ROWS
    # One for all at once, and one for the locks.
    assert count["savepoints"] <= MOST_FOR_ONE + 2
    assert count["transactions"] <= 2


@pytest.mark.parametrize("mirrored", WAYS)
def test_two_refused_rows_cost_twice_as_much_at_most(strict: Engine, mirrored: Mirror) -> None:
    bad = {3, ROWS - 7}
    batch = batch_with(bad)
    with counted(strict) as count:
        results = mirrored(strict, batch)
    expect_refused(results, batch, bad)
    assert count["savepoints"] <= 2 * MOST_FOR_ONE + 2


@pytest.mark.parametrize("mirrored", WAYS)
def test_many_refused_rows_cost_no_more_than_two_savepoints_each(strict: Engine, mirrored: Mirror) -> None:
    bad = set(range(100))
    batch = batch_with(bad, 100)
    with counted(strict) as count:
        results = mirrored(strict, batch)
    expect_refused(results, batch, bad)
    assert ids(strict) == [RECORDED["id"]]
    assert count["savepoints"] <= 2 * 100 + 2


def test_a_batch_without_a_refused_row_has_no_savepoint_of_its_own(strict: Engine) -> None:
    with counted(strict) as count:
        mirror_and_commit(strict, batch_with(set()))
    assert count == {"transactions": 1}


@pytest.mark.parametrize("mirrored", WAYS)
def test_states_of_one_invite_that_come_into_different_halves_are_merged(strict: Engine, mirrored: Mirror) -> None:
    states = [payload(id="b", tokenHash="b" * 64, status=one) for one in LOWEST_TO_HIGHEST]
    batch: list[Any] = [*states, payload(id="thief"), payload(id="a", tokenHash="a" * 64)]
    results = mirrored(strict, batch)
    kinds = [one.status.value if isinstance(one, MirrorOutcome) else type(one) for one in results]
    assert kinds == ["created", "advanced", "advanced", "advanced", StoredRowError, "created"]
    assert stored(strict, "b").status == "redeemed"


@pytest.mark.only("postgresql", because="on SQLite nobody else adds a row meanwhile")
@pytest.mark.parametrize("mirrored", WAYS)
def test_rows_that_another_adds_while_a_refused_one_is_looked_for_are_merged_with(
    strict: Engine, rivals: Rivals, mirrored: Mirror
) -> None:
    batch: list[Any] = [REDEEMED | {"id": "a", "tokenHash": "a" * 64}, payload(id="thief"), REDEEMED | {"id": "z"}]
    batch[2]["tokenHash"] = "f" * 64
    # It has looked for all of them, and is about to add the last.
    with rivals.gate("BEFORE INSERT ON ingress_invites FOR EACH ROW WHEN (new.id = 'z')") as gate:
        first = rivals.held_up(mirrored, rivals.first, batch)
        deliver(rivals.second, payload(id="z", tokenHash="f" * 64, note="theirs", updatedAt=LATER))
        gate.open()
        results = first.result(30)
    assert [type(one) for one in results] == [MirrorOutcome, StoredRowError, MirrorOutcome]
    assert [one.status.value for one in (results[0], results[2])] == ["created", "advanced"]
    assert (stored(strict, "a").status, stored(strict, "z").status) == ("redeemed", "redeemed")


@pytest.mark.parametrize("mirrored", WAYS)
@pytest.mark.parametrize("close", ["revoked", "expired"])
def test_a_note_that_the_table_refuses_does_not_keep_an_invite_open(
    strict: Engine, mirrored: Mirror, close: str
) -> None:
    write(strict, "CREATE UNIQUE INDEX one_note ON ingress_invites (note)")
    deliver(strict, payload(id="other", note="taken", tokenHash="b" * 64))
    (refused,) = mirrored(strict, [payload(status=close, note="taken", updatedAt=LATER)])
    assert isinstance(refused, StoredRowError)
    assert f"only its status ({close}) and use count (0) were taken over" in str(refused)
    kept = stored(strict)
    assert (kept.status, kept.note, kept.updated_at) == (close, None, RECORDED["updatedAt"])


def test_an_invite_is_closed_so_even_where_another_created_at_is_passed_over(strict: Engine) -> None:
    write(strict, "CREATE UNIQUE INDEX one_note ON ingress_invites (note)")
    deliver(strict, payload(id="other", note="taken", tokenHash="b" * 64))
    given = payload(status="revoked", note="taken", createdAt=1, updatedAt=LATER)
    (refused,) = mirror_and_commit(strict, [given], first_created_at_wins=True)
    assert isinstance(refused, StoredRowError)
    assert (stored(strict).status, stored(strict).created_at) == ("revoked", RECORDED["createdAt"])


def test_a_use_with_text_that_the_table_refuses_is_counted_all_the_same(strict: Engine) -> None:
    write(strict, "CREATE UNIQUE INDEX one_user ON ingress_invites (redeemed_by_external_user_id)")
    deliver(strict, REDEEMED | {"id": "other", "tokenHash": "b" * 64})
    (refused,) = mirror_and_commit(strict, [REDEEMED])
    assert isinstance(refused, StoredRowError)
    kept = stored(strict)
    assert (kept.status, kept.use_count, kept.redeemed_by_external_user_id) == ("redeemed", 1, None)
    # Once the table takes it, the same message brings the rest.
    write(strict, "DROP INDEX one_user")
    assert deliver(strict, REDEEMED).invite.redeemed_by_external_user_id == "u9"


def test_an_older_state_that_the_table_refuses_opens_nothing(strict: Engine) -> None:
    write(strict, "CREATE UNIQUE INDEX one_note ON ingress_invites (note)")
    deliver(strict, payload(id="other", note="taken", tokenHash="b" * 64))
    deliver(strict, REDEEMED)
    before = stored(strict)
    (refused,) = mirror_and_commit(strict, [payload(note="taken", updatedAt=REDEEMED["updatedAt"] + 1)])
    assert isinstance(refused, StoredRowError)
    assert "taken over" not in str(refused)
    assert stored(strict) == before


@given(rows_of_one_invite(2))
@settings(max_examples=500)
def test_what_closes_an_invite_is_a_step_on_the_way_to_the_merge(states: list[Invite]) -> None:
    whole = merged(*states)
    if whole is not None:
        first, second = states
        assert merged(closing(first, whole), second) == whole
        assert closing(closing(first, whole), whole) == closing(first, whole)
        assert closing(whole, whole) == whole
