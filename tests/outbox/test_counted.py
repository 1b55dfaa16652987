"""A number and its noun agree."""

import pytest

from outbox.counted import counted


@pytest.mark.parametrize(("number", "said"), [(0, "0 rows differ"), (1, "1 row differs"), (2, "2 rows differ")])
def test_only_one_is_singular(number: int, said: str) -> None:
    assert counted(number, "row differs", "rows differ") == said
