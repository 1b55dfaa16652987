"""SIGTERM from the first line of the command on: 0 for what runs until it is stopped, 3 for what it interrupts."""

import json
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from cli import main
from relay import sigterm
from tests.conftest import Stores
from tests.postgresql.waiting import until
from tests.socket import clients
from tests.system.processes import RELAY, RelayProcess, start_relay

# From its first line to well after its start.
MOMENTS = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.8]


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_relay_stopped_at_any_moment_of_its_start_ends_with_0(stores: Stores, moment: float) -> None:
    with start_relay(stores) as worker:
        until_it_listens(worker)
        stop_twice_after(worker, moment)
        assert worker.join() == 0
    assert [line for line in worker.seen if line["event"] == "not json"] == []


@pytest.mark.only("sqlite", because="the test is of the server's process, not of its store")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_gateway_stopped_at_any_moment_of_its_start_ends_with_0(stores: Stores, moment: float) -> None:
    args = ("gateway", "--listen", clients.url(stores), "--db", stores.mirror_url)
    with start_relay(stores, *args) as server:
        until_it_listens(server)
        stop_twice_after(server, moment)
        assert server.join() == 0
    assert not clients.path(stores).exists()


@pytest.mark.parametrize(
    "command", [("run",), ("run", "--until-empty"), ("verify",), ("replay", "--all")], ids=" ".join
)
def test_a_command_stopped_while_it_opens_a_database_that_does_not_answer(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://x@127.0.0.1:{silent.getsockname()[1]}/x"
        process = subprocess.Popen([RELAY, "--assistant-db", url, *command], stderr=subprocess.PIPE, cwd=tmp_path)
        with RelayProcess(process) as opening:
            connected, _ = silent.accept()
            with connected:
                process.send_signal(signal.SIGTERM)
                told = process.communicate(timeout=30)[1]
            assert opening.join() == (0 if command == ("run",) else 3)
    assert told == (b"" if command == ("run",) else b"relay: interrupted; run it again\n")


# Each is raised in the middle of a command: this process must not be taken for one.
RAISED = """
import signal
from freezegun import freeze_time
from relay import sigterm

def is_raised():
    try:
        signal.raise_signal(signal.SIGTERM)
    except sigterm.Terminated:
        return True
    return False
"""


def test_a_second_sigterm_at_once_does_not_break_into_what_the_first_began_but_a_later_one_can() -> None:
    script = """
with freeze_time() as clock:
    with sigterm.raising():
        raised = [is_raised(), is_raised(), clock.tick(2) and is_raised()]
    raised.append(is_raised())
assert raised == [True, False, True, False], raised
"""
    subprocess.run([sys.executable, "-c", RAISED + script], check=True, timeout=30)


def test_a_relay_is_stopped_by_a_sigterm_whose_exception_was_lost_in_a_finalizer(stores: Stores) -> None:
    script = """
import sys
from relay.open import open_gateway, open_source
from relay.settings import Settings
from relay.worker import Worker

class Finalized:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

settings = Settings(assistant_db=sys.argv[1], gateway=sys.argv[2])
with sigterm.raising():
    Finalized()
    assert sigterm.came()
    worker = Worker(open_source(settings), open_gateway(settings), settings)
    worker.run()
assert worker.interrupted
"""
    command = [sys.executable, "-c", RAISED + script, stores.source_url, stores.mirror_url]
    ended = subprocess.run(command, check=True, timeout=30, stderr=subprocess.PIPE)
    assert b"Exception ignored in" not in ended.stderr


SAID_BY_LIBRARIES = """
import logging, sys, warnings
from relay.logs import configure_logs
configure_logs("json")
configure_logs("json")

def say(error):
    try:
        raise error
    except BaseException:
        logging.getLogger("sqlalchemy.pool").error("closing %s", "c1", exc_info=True)

with sigterm.raising():
    say(sigterm.Terminated())
    say(KeyboardInterrupt())
    say(ValueError("two\\nlines"))
    logging.getLogger("alembic").info("not worth a line")
    warnings.warn("odd")
    logging.getLogger("wrong").warning("%d", "no number")
"""


def test_what_a_library_says_is_one_line_of_the_log_and_a_stop_that_broke_into_it_is_none() -> None:
    command = [sys.executable, "-W", "always", "-c", RAISED + SAID_BY_LIBRARIES]
    told = subprocess.run(command, check=True, timeout=30, stderr=subprocess.PIPE).stderr.decode()
    lines = [json.loads(line) for line in told.splitlines()]
    assert [(line["event"], line["level"], line["library"]) for line in lines] == [
        ("library_warning", "error", "sqlalchemy.pool"),
        ("library_warning", "warning", "py.warnings"),
        ("library_warning", "warning", "wrong"),
    ]
    assert lines[0]["reason"].startswith("closing c1: ValueError: two")
    assert "UserWarning: odd" in lines[1]["reason"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("run", 0),
        ("--json --assistant-db verify --gateway=x run", 0),
        ("gateway --listen unix:///x --db y", 0),
        ("run --until-empty", 3),
        ("--gateway run verify", 3),
        ("dead retry --all", 3),
        ("--gateway", 3),
        ("", 3),
    ],
)
def test_what_a_command_ends_with_is_known_before_its_line_is_parsed(words: str, code: int) -> None:
    assert sigterm.exit_code(words.split()) == code


def test_the_options_before_a_commands_name_that_take_a_value_are_all_known() -> None:
    valued = [one for one in main.params if isinstance(one, click.Option) and not one.is_flag]
    assert {name for one in valued for name in one.opts} == set(sigterm.VALUED_OPTIONS)


def until_it_listens(started: RelayProcess) -> None:
    """The first thing that it does once its own code runs is to catch SIGTERM."""

    def is_caught() -> bool:
        lines = Path(f"/proc/{started.pid}/status").read_text().splitlines()
        caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
        return bool(caught >> (signal.SIGTERM - 1) & 1)

    until("SIGTERM is caught", is_caught)


def stop_twice_after(started: RelayProcess, seconds: float) -> None:
    select.select([], [], [], seconds)
    for pause in (0.0, 0.005):
        select.select([], [], [], pause)
        started.process.send_signal(signal.SIGTERM)
