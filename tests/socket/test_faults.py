"""A relay and a gateway, real processes, with everything between them going wrong: P4, P5 and P7 through the socket."""

import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from tests.conftest import Stores, rows, write
from tests.socket.clients import gateway, path, url
from tests.socket.proxy import Spoil, proxy
from tests.socket.waiting import DEADLINE_SECONDS, frozen_in_mid_transaction
from tests.system.processes import RelayProcess, relay, running_relay

pytestmark = pytest.mark.only("sqlite", because="its trigger and its one write lock show what happens in the gateway")

INVITES = 300
PROBING = {"RELAY_PROBE_LONGEST": "0.2"}
FROZEN_SECONDS = 10.0
# As relays are started; no setting changes it.
TIMED_OUT = "no answer within 5 s"


def create_and_close_some(stores: Stores) -> None:
    """Invites of which every third is used up and every fifth of the others revoked."""
    for number in range(INVITES):
        invite = stores.create().invite
        if number % 3 == 0:
            stores.use(invite.id)
        elif number % 5 == 0:
            stores.revoke(invite.id)


def watch_closing(stores: Stores) -> None:
    """The gateway's database itself reports any invite that opens again."""
    write(stores.mirror, "CREATE TABLE reopened (id TEXT)")
    write(
        stores.mirror,
        """
        CREATE TRIGGER watch AFTER UPDATE ON ingress_invites WHEN old.status <> 'active' AND new.status = 'active'
        BEGIN INSERT INTO reopened VALUES (new.id); END
        """,
    )


def wait_until_drained(started: RelayProcess, stores: Stores) -> None:
    while rows(stores.source, "SELECT 1 FROM outbox_messages WHERE state IN ('pending', 'retrying') LIMIT 1"):
        started.wait_for("delivered")


def assert_nothing_lost_reopened_or_burnt(stores: Stores) -> None:
    assert relay(stores, "verify").code == 0
    assert rows(stores.mirror, "SELECT id FROM reopened") == []
    assert rows(stores.source, "SELECT DISTINCT attempts FROM outbox_messages") == [{"attempts": 0}]


def test_p04_p07_a_gateway_killed_again_and_again_loses_nothing_and_costs_no_attempts(stores: Stores) -> None:
    watch_closing(stores)
    with running_relay(stores, "--gateway", url(stores), "run", RELAY_BATCH_SIZE="20", **PROBING) as started:
        for _ in range(3):
            create_and_close_some(stores)
            with gateway(stores) as serving:
                started.wait_for("delivered")
                serving.kill()
                serving.wait()
            started.wait_for("gateway_unreachable")
        with gateway(stores):
            wait_until_drained(started, stores)

    assert_nothing_lost_reopened_or_burnt(stores)


def test_p04_p07_a_gateway_that_stops_in_mid_batch_for_ten_seconds_and_resumes_loses_nothing(stores: Stores) -> None:
    watch_closing(stores)
    create_and_close_some(stores)
    with (
        gateway(stores) as serving,
        running_relay(stores, "--gateway", url(stores), "run", RELAY_BATCH_SIZE="20", **PROBING) as started,
    ):
        with frozen_in_mid_transaction(serving, stores.mirror_url):
            frozen_at = time.monotonic()
            # Two time-outs: the batch's answers, then on a new connection a probe's, 5 s each, and 0.2 s between them.
            while time.monotonic() < frozen_at + FROZEN_SECONDS:
                assert TIMED_OUT in started.wait_for("gateway_unreachable")["reason"]
        wait_until_drained(started, stores)

    assert_nothing_lost_reopened_or_burnt(stores)


def every_third(spoil: Spoil) -> Spoil:
    pieces = count()
    return lambda data: spoil(data) if next(pieces) % 3 == 0 else (data, False)


def cut_after_commit() -> Spoil:
    """The gateway has committed, and nobody is told."""
    return every_third(lambda _: (b"", True))


def cut_in_half() -> Spoil:
    return every_third(lambda data: (data[: len(data) // 2], True))


def garbage() -> Spoil:
    return every_third(lambda data: (b"\x00\xff}{\n" + data, False))


def foreign_answers() -> Spoil:
    return every_third(lambda data: (b'{"id":"999999","result":{"id":"x"}}\n' + data, False))


@pytest.mark.parametrize(
    "spoil", [cut_after_commit, cut_in_half, garbage, foreign_answers], ids=lambda one: one.__name__
)
def test_p04_p05_p07_spoilt_answers_lose_reopen_and_burn_nothing(
    stores: Stores, tmp_path: Path, spoil: Callable[[], Spoil]
) -> None:
    watch_closing(stores)
    between = tmp_path / "p.sock"
    with (
        gateway(stores),
        proxy(between, path(stores), spoil()) as spoiling,
        running_relay(stores, "--gateway", f"unix://{between}", "run", RELAY_BATCH_SIZE="20", **PROBING) as started,
    ):
        create_and_close_some(stores)
        wait_until_drained(started, stores)

    assert spoiling.spoilt > 3
    assert_nothing_lost_reopened_or_burnt(stores)


@pytest.mark.parametrize("late", [True, False], ids=["late", "never"])
def test_p04_p05_p07_answers_after_the_time_out_or_never_lose_reopen_and_burn_nothing(
    stores: Stores, tmp_path: Path, late: bool
) -> None:
    watch_closing(stores)
    pieces, given_up = count(), threading.Event()

    def hold_back_one(data: bytes) -> tuple[bytes, bool]:
        if next(pieces) != 2:
            return data, False
        # The gateway has committed. Late, the answers reach the connection on which they were asked for.
        return (data if late and given_up.wait(DEADLINE_SECONDS) else b""), False

    between = tmp_path / "p.sock"
    with (
        gateway(stores),
        proxy(between, path(stores), hold_back_one),
        running_relay(stores, "--gateway", f"unix://{between}", "run", RELAY_BATCH_SIZE="20", **PROBING) as started,
    ):
        create_and_close_some(stores)
        broken = started.wait_for("gateway_connection_broken")
        given_up.set()
        wait_until_drained(started, stores)

    assert TIMED_OUT in broken["reason"]
    assert_nothing_lost_reopened_or_burnt(stores)


def test_an_invite_of_a_missing_contact_waits_and_arrives_once_the_contact_does(stores: Stores) -> None:
    waiting = stores.create(contact_id="co-late").invite
    with gateway(stores), running_relay(stores, "--gateway", url(stores), "run", RELAY_RETRY_FIRST="0.1") as started:
        started.wait_for("refused_for_now", invite=waiting.id)
        stores.add_contact("co-late")
        started.wait_until_delivered(waiting.id)

    assert relay(stores, "verify").code == 0
