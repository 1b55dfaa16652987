"""Two stores gone through side by side: each row is met once, beside its own counterpart and no other."""

from typing import Any

import pytest

from relay.topics import INVITES
from relay.walk import Differing, differing_rows
from tests.conftest import Stores, write

# In their order: NULL before every text, texts before blobs.
IDS = ["NULL", "''", "'a'", "'b'", "x''", "x'61'"]
AS_READ: dict[str, Any] = dict(zip(IDS, [None, "", "a", "b", b"", b"a"], strict=True))


def put(stores: Stores, ours: list[str], theirs: list[str]) -> None:
    """The same rows on both sides but for their ids, each given as SQL."""
    columns = "source_channel, token_hash, max_uses, use_count, expires_at, status, contact_id, created_at, updated_at"
    values = "'t', 'h', 1, 0, 1, 'active', 'co-1', 1, 1"
    for engine, table, ids in (
        (stores.source, "assistant_ingress_invites", ours),
        (stores.mirror, "ingress_invites", theirs),
    ):
        # Such ids come from tables of other programs, that say less of their columns.
        write(engine, f"ALTER TABLE {table} RENAME TO before")
        write(engine, f"CREATE TABLE {table} AS SELECT * FROM before")
        for id_ in ids:
            write(engine, f"INSERT INTO {table} (id, {columns}) VALUES ({id_}, {values})")


@pytest.mark.only("sqlite", because="an id of PostgreSQL's is text and never NULL")
@pytest.mark.parametrize("left_out", IDS)
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_row_that_one_side_lacks_is_the_only_difference_whatever_its_id(
    stores: Stores, left_out: str, side: str
) -> None:
    rest = [id_ for id_ in IDS if id_ != left_out]
    put(stores, *((rest, IDS) if side == "ours" else (IDS, rest)))

    def nothing(_: int) -> None: ...

    found = Differing()
    for part in differing_rows(stores.source, stores.mirror, INVITES, since=None, on_ours=nothing, on_theirs=nothing):
        found.ids += part.ids
        found.odd += part.odd

    odd = [row[0] for pair in found.odd for row in pair if row is not None]
    assert [*found.ids, *odd] == [AS_READ[left_out]]
