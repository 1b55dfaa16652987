"""One server for all tests of a module that leave it as it was."""

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.conftest import Stores, both_stores
from tests.socket.clients import gateway


@dataclass(frozen=True, slots=True)
class Served:
    """A gateway that serves ``stores``. Tests share both, so each uses invites of its own."""

    stores: Stores
    process: "subprocess.Popen[bytes]"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with both_stores(tmp_path_factory.mktemp("shared")) as made, gateway(made) as process:
        yield Served(made, process)
