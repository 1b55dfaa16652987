"""What the server answers when something happens that nobody foresaw."""

from typing import Any

import pytest
from sqlalchemy import Engine, event

from gateway_store.invites.payload import InvitePayload
from gateway_store.socket.answering import answers
from gateway_store.socket.methods import Probe
from tests.conftest import rows
from tests.gateway_store.examples import payload

MANY = [f"inv-{number}" for number in range(20)]


@pytest.mark.parametrize("bad", [MANY[0], MANY[7], MANY[-1]])
def test_a_request_that_breaks_the_store_in_a_way_nobody_foresaw_is_answered_and_so_are_the_others(
    mirror: Engine, bad: str
) -> None:
    @event.listens_for(mirror, "before_cursor_execute")
    def break_down(_conn: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "ingress_invites" in statement and f"'{bad}'" in repr(parameters).replace('"', "'").replace("\\", ""):
            raise TypeError("nobody foresaw this")

    asked = [InvitePayload.model_validate(payload(id=one)) for one in MANY]
    *found, probed = answers(mirror, [*asked, Probe()])
    assert [one.get("result") for one in found] == [None if one == bad else {"id": one} for one in MANY]
    assert "nobody foresaw this" in str(found[MANY.index(bad)]["error"])
    assert "result" in probed
    assert {row["id"] for row in rows(mirror, "SELECT id FROM ingress_invites")} == set(MANY) - {bad}
