"""The gateway looks invites up by hash at every knock at the door: each lookup has its index, from every shape."""

from pathlib import Path

import pytest
from sqlalchemy import Engine

from gateway_store.read import rows_by_id, rows_of
from outbox import reading
from tests.gateway_store.examples import RECORDED, deliver, payload
from tests.gateway_store.shapes import SHAPES, make, query, upgrade

LOOKUPS = {
    "token_hash = 'h'": "idx_ingress_invites_token_lookup (token_hash=?)",
    "invite_code_hash = 'h' AND source_channel = 'telegram'": (
        "idx_ingress_invites_code_lookup (invite_code_hash=? AND source_channel=?)"
    ),
    "voice_code_hash = 'h' AND source_channel = 'phone'": (
        "idx_ingress_invites_voice_lookup (voice_code_hash=? AND source_channel=?)"
    ),
    "contact_id = 'co-1'": "idx_ingress_invites_contact (contact_id=?)",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", LOOKUPS)
def test_a_lookup_uses_its_index(tmp_path: Path, shape: str, where: str) -> None:
    path = tmp_path / "gateway.db"
    make(path, shape)
    upgrade(path)
    plan = query(path, f"EXPLAIN QUERY PLAN SELECT * FROM ingress_invites WHERE {where}")
    assert [step[-1] for step in plan] == [f"SEARCH ingress_invites USING INDEX {LOOKUPS[where]}"]


def test_pages_of_rows_follow_each_other_in_the_order_of_ids(mirror: Engine) -> None:
    for invite_id in ("c", "a", "B", "ä"):
        deliver(mirror, payload(id=invite_id))
    pages, after = [], ""
    with reading(mirror) as connection:
        while page := rows_by_id(connection, after=after, limit=3):
            pages.append([row[0] for row in page])
            after = pages[-1][-1]  # type: ignore[assignment]
    assert pages == [["B", "a", "c"], ["ä"]]


def test_whole_rows_are_found_by_id_and_unknown_ids_are_absent(mirror: Engine) -> None:
    deliver(mirror, RECORDED)
    with reading(mirror) as connection:
        assert rows_of(connection, ["rec-16197", "no-such"]) == {"rec-16197": tuple(RECORDED.values())}
