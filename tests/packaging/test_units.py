"""The units for systemd are ones that it takes, and do what the README says of them."""

import shlex
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from outbox.database.postgresql import LONGEST_SECONDS
from relay.settings import Settings
from relay.systemd import LONGEST_PAUSE
from tests.packaging.test_readme import COMMANDS, options

DOCS = Path(__file__).parents[2] / "docs"
UNITS = sorted(DOCS.glob("*.service"))
RELAY = Path(sys.executable).with_name("relay")


def keys_of(unit: Path) -> dict[str, list[str]]:
    """Of [Service]: a key may stand several times."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def test_there_is_a_unit_for_each_command_that_runs_until_it_is_stopped() -> None:
    assert [unit.name for unit in UNITS] == ["relay-gateway.service", "relay.service"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_kills_what_froze_with_the_one_signal_that_reaches_it_and_starts_it_again(unit: Path) -> None:
    keys = keys_of(unit)
    wanted = {"Type": ["notify"], "NotifyAccess": ["main"], "WatchdogSignal": ["SIGKILL"], "Restart": ["always"]}
    assert {key: keys.get(key) for key in wanted} == wanted


def test_a_relay_that_froze_is_killed_within_half_a_minute_and_not_for_its_servers_silence() -> None:
    (seconds,) = map(int, keys_of(DOCS / "relay.service")["WatchdogSec"])
    # Silent from the end of a lease without progress on, until the server is given up, and a pause at either end.
    longest_silence = timedelta(seconds=LONGEST_SECONDS) - Settings.model_construct().lease + 2 * LONGEST_PAUSE
    assert longest_silence < timedelta(seconds=seconds) < timedelta(seconds=30)


def test_a_gateway_that_waits_for_its_server_is_not_taken_for_frozen() -> None:
    (seconds,) = map(int, keys_of(DOCS / "relay-gateway.service")["WatchdogSec"])
    assert timedelta(seconds=seconds) > timedelta(seconds=LONGEST_SECONDS) + 2 * LONGEST_PAUSE


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_names_commands_options_and_settings_that_exist(unit: Path) -> None:
    keys = keys_of(unit)
    (start,) = keys["ExecStart"]
    _, command, *words = shlex.split(start)
    assert (command,) in COMMANDS
    assert {word for word in words if word.startswith("--")} <= set(options((command,)))
    named = {one.partition("=")[0].removeprefix("RELAY_").lower() for one in keys.get("Environment", [])}
    assert named <= Settings.model_fields.keys()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not on this machine")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_takes_the_unit(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/usr/local/bin/relay", str(RELAY)))
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", copy], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, [line for line in ended.stderr.splitlines() if str(copy) in line]) == (0, [])
