"""Every promise of DESIGN.md section 2 names its tests."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
NAMED = re.compile(r"^def test_p(\d\d)_", re.MULTILINE)


@pytest.mark.parametrize("promise", range(1, 13))
def test_every_promise_has_a_test_that_names_it(promise: int) -> None:
    named = {int(number) for path in TESTS.rglob("test_*.py") for number in NAMED.findall(path.read_text())}
    assert promise in named
