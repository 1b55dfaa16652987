"""Both stores on the server that all tests share, and a second server that a test may hurt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Stores, both_stores
from tests.postgres import Cluster, new_folder


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with both_stores(tmp_path, "postgresql") as made:
        yield made


@pytest.fixture(scope="module")
def own_server() -> Iterator[Cluster]:
    """For one file's tests; what is wrong with it at the end of a test is mended by that test."""
    with Cluster(new_folder(), {"fsync": "off"}) as cluster:
        yield cluster
