"""What the database itself refuses, whatever the code does."""

from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError

from tests.outbox.conftest import Outbox


@pytest.mark.parametrize("state", ["delivered", "superseded", "dead"])
def test_a_settled_state_without_settled_at_is_refused(box: Outbox, state: str) -> None:
    with pytest.raises(IntegrityError):
        box.put(state=state)


@pytest.mark.parametrize("columns", [{"state": "pending"}, {"state": "retrying", "available_at": 1}])
def test_settled_at_on_a_message_that_still_waits_is_refused(box: Outbox, columns: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        box.put(settled_at=1, **columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"state": "retrying"},
        {"state": "lost"},
        {"origin": "elsewhere"},
        {"shard": 64},
        {"shard": -1},
        {"attempts": -1},
        {"last_error": "x" * 2001},
    ],
    ids=lambda columns: "-".join(columns),
)
def test_a_value_that_no_code_expects_is_refused(box: Outbox, columns: dict[str, Any]) -> None:
    seq = box.put()

    with pytest.raises(IntegrityError):
        box.change(seq, **columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"state": "delivered", "settled_at": 1},
        {"state": "superseded", "settled_at": 1},
        {"state": "dead", "settled_at": 1},
        {"state": "retrying", "available_at": 1},
        {"last_error": "x" * 2000},
        {"shard": 63},
    ],
    ids=lambda columns: "-".join(map(str, columns.values()))[:12],
)
def test_every_state_that_the_code_writes_is_accepted(box: Outbox, columns: dict[str, Any]) -> None:
    seq = box.put(**columns)

    assert columns.items() <= box.row(seq).items()
