"""`relay status` shows what the relays say beside its own probe; true of one that is frozen, killed, or just begun."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from outbox.clock import now_ms
from outbox.processes import host, started_ticks
from tests.conftest import Stores, write
from tests.databases import plain_role
from tests.postgresql.waiting import until
from tests.relay.outages import missing
from tests.relay.test_apart import refusing
from tests.relay.test_closed_topics import make_newer
from tests.system import as_nobody
from tests.system.freezing import freeze
from tests.system.processes import RELAY, Ended, relay, running_relay
from tests.system.setting_clocks import Clock

ELSEWHERE = "another machine"
HOUR = 3600


def status(stores: Stores) -> Ended:
    return relay(stores, "status", "--json")


def that_warns(ended: Ended, *words: str) -> bool:
    return any(all(one in warning for one in words) for warning in ended.json["warnings"])


def sign_on(stores: Stores, name: str, seconds_ago: int = 0, at: str | None = None, **given: Any) -> None:
    """A relay in this very process, or in one ``at`` another machine."""
    row = {"id": name, "host": at or host(), "pid": os.getpid(), "seen_at": now_ms() - 1000 * seconds_ago} | given
    row |= {"started_at": row["seen_at"], "pid_started": None if at else started_ticks(os.getpid())}
    names = ", ".join(row)
    values = ", ".join(f":{one}" for one in row)
    write(stores.source, f"INSERT INTO outbox_relays (destination, {names}) VALUES ('gateway', {values})", **row)


def test_a_relay_says_that_its_gateway_is_down_and_later_that_it_is_up(stores: Stores) -> None:
    with running_relay(stores, RELAY_PROBE_LONGEST="0.2") as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        with missing(stores):
            stores.create()
            until("it says so", lambda: status(stores).json["relays"][0]["down_since"])
            ended = status(stores)
            (seen,) = ended.json["relays"]
        until("it says so", lambda: status(stores).json["relays"][0]["down_since"] is None)
        until("it is delivered", lambda: status(stores).json["pending"] == 0)
        healed = status(stores)
    assert ended.code == 4
    nothing_there = seen["last_error"].partition(";")[0]
    assert nothing_there.startswith("the gateway's database ")
    assert seen["down_since_iso"].startswith("20")
    assert (healed.code, healed.json["warnings"]) == (0, [])
    assert healed.json["relays"][0]["last_error"].startswith(nothing_there), "the last, though it is over"


def test_a_relay_that_begins_while_its_gateway_is_down_says_so_at_once(stores: Stores) -> None:
    with missing(stores), running_relay(stores, RELAY_LEASE="60") as worker:
        worker.wait_for("gateway_unreachable")
        until("it says so", lambda: status(stores).json["relays"][0]["down_since"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_the_relay_may_not_write_and_this_command_may_is_named_by_both_views() -> None:
    with as_nobody.readable_gateway(0o644, 0) as stores:
        process, _, log = as_nobody.start(stores, "run")
        try:
            # Looking at it takes the others' rights off the file, which is ours.
            until("it is down", lambda: log.exists() and "gateway_unreachable" in log.read_text())
            until("it says so", lambda: that_warns(status(stores), "own probe"))
            ended = status(stores)
        finally:
            process.kill()
            process.join()
    assert (ended.code, ended.json["gateway"]) == (1, "up")
    assert that_warns(ended, "says that its gateway", "is down since", "/g/gateway.db", "says that it is up")


@pytest.mark.only("postgresql", because="a role's rights are a server's")
def test_a_server_that_the_relay_may_not_write_and_this_command_may_is_named_by_both_views(stores: Stores) -> None:
    stores.create()
    with plain_role(stores.mirror_url, 5) as at:
        role = at.split("//")[1].split("@")[0].split(":")[0]
        write(stores.mirror, f"REVOKE pg_write_all_data FROM {role}")
        with running_relay(stores, "--gateway", at, "run"):
            until("it says so", lambda: that_warns(status(stores), "own probe"))
            ended = status(stores)
    assert (ended.code, ended.json["gateway"]) == (1, "up")
    assert that_warns(ended, "is down since", "read-only for this role", role, "says that it is up")


def test_a_frozen_relay_drains_nothing_and_is_named_until_it_goes_on(stores: Stores) -> None:
    with running_relay(stores) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        freeze(worker, stores)
        idle = status(stores)
        stores.create()
        busy = status(stores)
        worker.process.send_signal(signal.SIGCONT)
        until("it lives", lambda: status(stores).json["live_relays"] == 1)
        until("it is delivered", lambda: status(stores).json["pending"] == 0)
        after = status(stores)
    assert (idle.code, idle.json["live_relays"], idle.json["relays"]) == (1, 0, [])
    assert [(one["pid"], one["seen"]) for one in idle.json["absent_relays"]] == [(worker.pid, "stopped")]
    assert that_warns(idle, f"process {worker.pid}", "stopped by a signal", f"kill -CONT {worker.pid}")
    assert that_warns(busy, "1 message waits and no relay lives")
    assert (after.code, after.json["absent_relays"]) == (0, [])


def test_a_killed_relay_does_not_live_and_is_the_last_that_was_seen(stores: Stores) -> None:
    with running_relay(stores) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        worker.kill()
        idle = status(stores)
        stores.create()
        busy = status(stores)
    assert (idle.code, idle.json["live_relays"]) == (0, 0)
    assert [(one["pid"], one["seen"]) for one in idle.json["absent_relays"]] == [(worker.pid, "gone")]
    assert busy.code == 1
    assert that_warns(busy, "1 message waits and no relay lives", f"the last was {idle.json['absent_relays'][0]['id']}")


def test_a_process_that_is_there_and_shows_itself_no_more_is_named(stores: Stores) -> None:
    sign_on(stores, "hung", seconds_ago=60)
    ended = status(stores)
    assert (ended.code, ended.json["live_relays"]) == (1, 0)
    assert that_warns(ended, "relay hung", "has not shown itself since")


def test_one_of_another_machine_that_is_not_seen_any_more_needs_nobody_unless_messages_wait(stores: Stores) -> None:
    sign_on(stores, "far", seconds_ago=60, at=ELSEWHERE)
    idle = status(stores)
    stores.create()
    busy = status(stores)
    assert (idle.code, idle.json["live_relays"], idle.json["absent_relays"][0]["seen"]) == (0, 0, "unseen")
    assert busy.code == 1
    assert that_warns(busy, "no relay lives", "the last was far")


def test_of_many_relays_with_one_trouble_a_few_are_named(stores: Stores) -> None:
    for number in range(30):
        sign_on(stores, f"relay-{number:02}", down_since=now_ms(), last_error="timed out")
    ended = status(stores)
    assert ended.json["live_relays"] == len(ended.json["relays"]) == 30
    assert len(ended.json["warnings"]) == 6
    assert ended.json["warnings"][-1] == "and so it is with 25 more relays"


def test_messages_set_apart_are_1_and_named(stores: Stores) -> None:
    stuck = stores.create().invite.id
    refusing(stores, stuck)
    with running_relay(stores):
        until(
            "it says so", lambda: status(stores).json["relays"] and status(stores).json["relays"][0]["needs_a_person"]
        )
        ended = status(stores)
        as_text = relay(stores, "status", COLUMNS="500")
    assert ended.code == as_text.code == 1
    assert that_warns(ended, "1 message is set apart, such as 1", "hands off", "outbox_messages")
    assert "needs a person: 1 message is set apart" in as_text.out


def test_a_closed_topic_is_said_by_the_relay_as_well(stores: Stores) -> None:
    stores.create()
    make_newer(stores, [1], version=9)
    with running_relay(stores):
        until("it says so", lambda: that_warns(status(stores), "says: the topic invite.mirror is closed"))
        assert status(stores).code == 1


def with_clock(stores: Stores, clock: Clock) -> tuple[int, dict[str, Any]]:
    urls = {"RELAY_ASSISTANT_DB": stores.source_url, "RELAY_GATEWAY": stores.mirror_url}
    ended = subprocess.run(
        [RELAY, "status", "--json"], env=os.environ | urls | clock.env, capture_output=True, check=False, timeout=60
    )
    return ended.returncode, json.loads(ended.stdout)


@pytest.mark.parametrize("seconds", [-HOUR, -5, 5, HOUR])
@pytest.mark.only("postgresql", because="SQLite's clock is that of its machine")
def test_a_clock_here_that_is_not_the_databases_is_1(stores: Stores, tmp_path: Path, seconds: int) -> None:
    clock = Clock(tmp_path / "clock")
    clock.set_ahead(seconds)
    code, found = with_clock(stores, clock)
    words = "ahead of" if seconds > 0 else "behind"
    assert code == 1
    assert abs(found["clock_ahead_ms"] - 1000 * seconds) < 1000
    assert any(f"clock of this machine is {abs(seconds)} s {words} the database's" in one for one in found["warnings"])


@pytest.mark.parametrize("seconds", [5, HOUR])
def test_a_relay_whose_clock_is_ahead_is_1(stores: Stores, tmp_path: Path, seconds: int) -> None:
    clock = Clock(tmp_path / "clock")
    clock.set_ahead(seconds)
    with running_relay(stores, **clock.env):
        until("it shows", lambda: any("clock" in one for one in status(stores).json["warnings"]))
        assert status(stores).code == 1


@pytest.mark.only("postgresql", because="SQLite's clock is that of its machine")
def test_a_relay_whose_clock_is_behind_the_databases_is_1(stores: Stores, tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    clock.set_ahead(-HOUR)
    with running_relay(stores, **clock.env):
        until("it shows", lambda: that_warns(status(stores), "its machine's clock is 3600 s behind the database's"))
