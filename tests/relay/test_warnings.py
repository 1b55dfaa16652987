"""What a relay says at its start of the machine that it is on."""

import pytest
from structlog.testing import capture_logs

from outbox.database import file_locks
from relay.worker import Worker
from tests.conftest import Stores
from tests.relay.rig import gateway_of, settings_of


def warnings_of_a_run(stores: Stores) -> list[str]:
    with gateway_of(stores) as gateway, capture_logs() as logs:
        Worker(stores.source, gateway, settings_of(stores)).run(until_empty=True)
    return [line["event"] for line in logs if line["log_level"] == "warning"]


def test_a_machine_whose_locks_can_be_dropped_is_warned_of(
    stores: Stores, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_locks, "_IS_LINUX", False)

    assert warnings_of_a_run(stores) == (["sqlite_locks_not_kept"] if backend == "sqlite" else [])


def test_linux_is_not(stores: Stores) -> None:
    assert warnings_of_a_run(stores) == []
