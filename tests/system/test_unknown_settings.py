"""A variable that looks like a setting and is none is named once, and changes nothing else."""

import pytest

from tests.conftest import Stores
from tests.system.processes import relay, running_relay


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RELAY_GATWAY", "RELAY_GATEWAY"),
        ("RELAY_ASSISTANT", "RELAY_ASSISTANT_DB"),
        ("RELAY_POLL_INTERVALL", "RELAY_POLL_INTERVAL"),
        ("relay_retenton", "RELAY_RETENTION"),
    ],
)
@pytest.mark.parametrize("command", [("status",), ("verify",), ("dead", "list"), ("init",), ("replay", "--all")])
def test_a_mistyped_variable_is_named_with_the_nearest_and_the_exit_code_stays(
    stores: Stores, command: tuple[str, ...], name: str, meant: str
) -> None:
    ended = relay(stores, *command, **{name: "x"})

    assert ended.code == 0
    assert ended.only_line == f"warning: {name} is no setting and is ignored; did you mean {meant}?"


def test_one_that_is_like_no_setting_is_named_alone(stores: Stores) -> None:
    assert relay(stores, "status", RELAY_ZZ="x").only_line == "warning: RELAY_ZZ is no setting and is ignored"


def test_a_setting_in_any_case_and_one_of_another_program_are_no_mistake(stores: Stores) -> None:
    assert relay(stores, "status", relay_retention="2d", RELAYED="x", RELAY_TRUSTED_UID="none").err == ""


def test_a_worker_says_so_in_its_log(stores: Stores) -> None:
    with running_relay(stores, RELAY_LEESE="5") as worker:
        worker.terminate()
    (said,) = worker.events("unknown_setting")
    assert said["reason"] == "RELAY_LEESE is no setting and is ignored; did you mean RELAY_LEASE?"
