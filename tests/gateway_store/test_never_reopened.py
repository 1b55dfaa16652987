"""P5 on a real database: no delivery, duplicate, reorder or replay ever re-opens an invite."""

import threading
from collections.abc import Callable
from itertools import count, pairwise, permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import Mirrored, MirrorOutcome, mirror_batch, upsert_contact
from tests.gateway_store.examples import (
    LOWEST_TO_HIGHEST,
    RECORDED,
    REDEEMED,
    deliver,
    payload,
    rows_of_one_invite,
    stored,
)

FRESH_IDS = (f"inv-{number}" for number in count())


# Each example has an invite of its own in the one database.
IN_ONE_DATABASE = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.fixture
def shared(mirror: Engine) -> Engine:
    with Session(mirror) as session, session.begin():
        upsert_contact(session, id="co-2", display_name="Grace")
    return mirror


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Every state an invite went through, oldest first: used, then used up, revoked or expired, or still open."""
    state = payload(maxUses=draw(st.integers(1, 3)), createdAt=1, updatedAt=1)
    states = [state]
    for change in draw(st.lists(st.sampled_from(["use", "revoke", "expire"]), max_size=4)):
        if state["status"] != "active":
            break
        state = state | _CHANGES[change](state) | {"updatedAt": state["updatedAt"] + draw(st.integers(1, 3))}
        states.append(state)
    return states


def _use(state: dict[str, Any]) -> dict[str, Any]:
    used = state["useCount"] + 1
    return {
        "useCount": used,
        "status": "redeemed" if used == state["maxUses"] else "active",
        "redeemedByExternalUserId": f"u{used}",
        "redeemedAt": used,
    }


_CHANGES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "use": _use,
    "revoke": lambda _: {"status": "revoked"},
    "expire": lambda _: {"status": "expired"},
}


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """A history, and all of its states in batches, in any order, some of them several times."""
    history = draw(histories())
    again = draw(st.lists(st.sampled_from(history), max_size=4))
    order = draw(st.permutations([*history, *again]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=3)))
    edges = [0, *cuts, len(order)]
    return history, [order[start:end] for start, end in pairwise(edges) if start < end]


@settings(max_examples=120, deadline=None, suppress_health_check=IN_ONE_DATABASE)
@given(given_=deliveries())
def test_any_delivery_of_a_history_ends_with_its_last_state_and_never_steps_back(
    shared: Engine, given_: tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]
) -> None:
    history, batches = given_
    invite_id = next(FRESH_IDS)
    before = (0, 0)
    for batch in batches:
        with Session(shared) as session, session.begin():
            results = mirror_batch(session.connection(), [state | {"id": invite_id} for state in batch])
        assert all(isinstance(result, MirrorOutcome) for result in results)
        after = _progress(shared, invite_id)
        assert after[0] >= before[0]
        assert after[1] >= before[1]
        before = after
    last = history[-1]
    row = stored(shared, invite_id)
    assert (row.status, row.use_count, row.redeemed_at, row.redeemed_by_external_user_id, row.updated_at) == (
        last["status"],
        last["useCount"],
        last["redeemedAt"],
        last["redeemedByExternalUserId"],
        last["updatedAt"],
    )


@settings(max_examples=80, deadline=None, suppress_health_check=IN_ONE_DATABASE)
@given(rows=rows_of_one_invite(4))
def test_states_that_contradict_each_other_still_never_step_back(shared: Engine, rows: list[Any]) -> None:
    # A clock that jumped, or a daemon restored from a copy, may send a later `updated_at` with an earlier state.
    invite_id = next(FRESH_IDS)
    before = (0, 0)
    for row in rows:
        state = dict(zip(RECORDED, row, strict=True)) | {"id": invite_id}
        whole = state | {"tokenHash": RECORDED["tokenHash"], "inviteCodeHash": None}
        deliver(shared, whole | {"voiceCodeHash": None, "voiceCodeDigits": None})
        after = _progress(shared, invite_id)
        assert after[0] >= before[0]
        assert after[1] >= before[1]
        before = after


@pytest.mark.parametrize("closed", ["expired", "revoked", "redeemed"])
def test_replaying_an_old_snapshot_leaves_a_closed_invite_closed(mirror: Engine, closed: str) -> None:
    deliver(mirror, RECORDED)
    deliver(mirror, payload(status=closed, useCount=1, updatedAt=RECORDED["updatedAt"] + 1))
    replayed = deliver(mirror, RECORDED)
    assert replayed.status is Mirrored.UNCHANGED
    assert (stored(mirror).status, stored(mirror).use_count) == (closed, 1)


def test_a_redeemed_invite_stays_redeemed_even_if_an_active_state_claims_to_be_newer(mirror: Engine) -> None:
    deliver(mirror, REDEEMED)
    deliver(mirror, payload(updatedAt=REDEEMED["updatedAt"] + 1, note="later"))
    row = stored(mirror)
    assert (row.status, row.use_count, row.redeemed_by_external_user_id) == ("redeemed", 1, "u9")
    assert row.note == "later"


def test_a_redeemed_invite_is_not_turned_into_a_revoked_one(mirror: Engine) -> None:
    deliver(mirror, REDEEMED)
    deliver(mirror, payload(status="revoked", updatedAt=REDEEMED["updatedAt"] + 1))
    assert stored(mirror).status == "redeemed"


def test_every_order_of_three_states_ends_with_the_same_row(mirror: Engine) -> None:
    states = [RECORDED, payload(note="x", updatedAt=RECORDED["updatedAt"] + 1), REDEEMED]
    ends = set()
    for number, order in enumerate(permutations(states)):
        for state in order:
            deliver(mirror, state | {"id": f"inv-{number}"})
        ends.add(repr(stored(mirror, f"inv-{number}")).replace(f"inv-{number}", ""))
    assert len(ends) == 1


def test_states_delivered_by_many_threads_at_once_merge_to_the_last(mirror: Engine) -> None:
    states = [payload(maxUses=9, useCount=used, updatedAt=used + 1, note=f"n{used}") for used in range(8)]
    together = threading.Barrier(len(states))

    def send(state: dict[str, Any]) -> None:
        together.wait(30)
        deliver(mirror, state)

    threads = [threading.Thread(target=send, args=(state,)) for state in states]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (stored(mirror).use_count, stored(mirror).note) == (7, "n7")


def _progress(engine: Engine, invite_id: str) -> tuple[int, int]:
    row = stored(engine, invite_id)
    return LOWEST_TO_HIGHEST.index(row.status), row.use_count
