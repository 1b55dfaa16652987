"""systemd as a test plays it: hears in time of a relay that works, and kills one that froze or hangs."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from outbox import open_engine, writing
from relay.open import open_gateway, open_source
from relay.settings import Settings
from relay.systemd import systemd_of
from relay.worker import Worker
from tests.conftest import Stores
from tests.postgresql.waiting import until, until_settled
from tests.relay.outages import Trouble, missing, write_locked
from tests.system.playing_systemd import READY, STOPPING, WORKS, Systemd, systemd_at
from tests.system.processes import DEADLINE_SECONDS, FORKSERVER, RelayProcess, running_relay, start_relay

# Who works must be heard in time, whatever the machine is doing; who does not is not heard however short it is.
PATIENT_SECONDS, SHORT_SECONDS = 60.0, 2.0
OFTEN = {"RELAY_PROBE_LONGEST": "0.2"}
LEASE = timedelta(seconds=1)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with systemd_at(tmp_path, deadline=PATIENT_SECONDS) as made:
        yield made


def start_gateway(stores: Stores, **env: str) -> RelayProcess:
    listen = f"unix://{stores.folder / 'served' / 'gateway.sock'}"
    return start_relay(stores, "gateway", "--listen", listen, "--db", stores.mirror_url, **env)


@pytest.mark.parametrize("abstract", [False, True], ids=["a path", "abstract"])
def test_systemd_hears_of_a_relay_that_it_is_ready_and_works_and_stops(
    stores: Stores, tmp_path: Path, abstract: bool
) -> None:
    with systemd_at(tmp_path, deadline=PATIENT_SECONDS, abstract=abstract) as systemd:
        hears_of_a_relay(stores, systemd)


def hears_of_a_relay(stores: Stores, systemd: Systemd) -> None:
    with running_relay(stores, **systemd.env) as worker:
        systemd.wait_for(READY)
        worker.wait_until_delivered(stores.create().invite.id)
        systemd.hears_that_it_works()
        assert worker.terminate() == 0
    systemd.wait_for(STOPPING)


@pytest.mark.parametrize("trouble", [missing, write_locked])
def test_an_outage_of_the_gateway_is_no_reason_to_kill_a_relay(
    stores: Stores, systemd: Systemd, trouble: Trouble
) -> None:
    stores.create()
    # From its start on.
    with trouble(stores), running_relay(stores, **systemd.env, **OFTEN) as worker:
        systemd.wait_for(READY)
        worker.wait_for("gateway_unreachable")
        systemd.hears_that_it_works()
        assert worker.terminate() == 0


def test_systemd_hears_of_a_gateway_that_it_is_ready_and_works_and_stops(stores: Stores, systemd: Systemd) -> None:
    with start_gateway(stores, **systemd.env) as serving:
        serving.wait_for("listening")
        systemd.wait_for(READY)
        systemd.hears_that_it_works()
        assert serving.terminate() == 0
    systemd.wait_for(STOPPING)


@dataclass(frozen=True, slots=True)
class Standing:
    """A relay in a process of its own that came to a place where it froze or hangs."""

    process: BaseProcess
    let_go: Event


@contextmanager
def standing(stores: Stores, systemd: Systemd, how: Callable[..., None]) -> Iterator[Standing]:
    let_go, stands = FORKSERVER.Event(), FORKSERVER.Event()
    given = (stores.source_url, stores.mirror_url, systemd.env, how, stands, let_go)
    process = FORKSERVER.Process(target=_relay, args=given)
    process.start()
    try:
        assert stands.wait(DEADLINE_SECONDS)
        yield Standing(process, let_go)
    finally:
        let_go.set()
        process.kill()
        process.join()


def _relay(
    source: str, mirror: str, env: dict[str, str], how: Callable[..., None], stands: Event, let_go: Event
) -> None:
    settings = Settings(assistant_db=source, gateway=mirror, lease=LEASE)
    worker = Worker(open_source(settings), open_gateway(settings), settings, systemd=systemd_of(os.environ | env))
    how(worker, stands, let_go)
    worker.run()


def freezing_while_it_settles(worker: Worker, stands: Event, _let_go: Event) -> None:
    """Stopped by a signal inside the transaction that settles, with the write lock that the daemon needs."""

    def freeze(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "delivered" in statement and "UPDATE" in statement:
            stands.set()
            os.kill(os.getpid(), signal.SIGSTOP)

    event.listen(worker.outbox, "before_cursor_execute", freeze)


def hanging_after_a_batch(worker: Worker, stands: Event, let_go: Event) -> None:
    """Only its drain: its other threads go on."""

    def hang(_: object) -> None:
        stands.set()
        let_go.wait()

    worker.on_settled = hang


def is_locked(stores: Stores) -> bool:
    impatient = open_engine(stores.source_url, busy_timeout=0.0)
    try:
        with writing(impatient):
            return False
    except OperationalError:
        return True
    finally:
        impatient.dispose()


@pytest.mark.only("sqlite", because="a PostgreSQL server ends the transaction of a frozen relay by itself")
def test_a_relay_that_froze_inside_its_transaction_falls_silent_and_killing_it_frees_the_daemon(
    stores: Stores, tmp_path: Path
) -> None:
    stores.create()
    with (
        systemd_at(tmp_path, deadline=SHORT_SECONDS) as systemd,
        standing(stores, systemd, freezing_while_it_settles) as frozen,
    ):
        until("it is stopped with the lock", lambda: state_of(frozen.process) == "T" and is_locked(stores))
        assert systemd.would_kill()
        assert is_locked(stores)

        frozen.process.kill()
        frozen.process.join()

        invite = stores.create().invite.id
    with running_relay(stores):
        until_settled(stores, invite)
    assert set(stores.states()) == {"delivered"}


def test_a_relay_whose_drain_hangs_falls_silent_though_its_other_threads_live(stores: Stores, tmp_path: Path) -> None:
    stores.create()
    with (
        systemd_at(tmp_path, deadline=SHORT_SECONDS) as systemd,
        standing(stores, systemd, hanging_after_a_batch) as hung,
    ):
        until("it is silent for so long that it is killed", systemd.would_kill)
        hung.let_go.set()
        systemd.wait_for(WORKS)


def test_a_gateway_that_froze_falls_silent(stores: Stores, tmp_path: Path) -> None:
    with (
        systemd_at(tmp_path, deadline=SHORT_SECONDS) as systemd,
        start_gateway(stores, **systemd.env) as serving,
    ):
        systemd.wait_for(WORKS)
        serving.process.send_signal(signal.SIGSTOP)
        until("it is silent for so long that it is killed", systemd.would_kill)


def state_of(process: BaseProcess) -> str:
    stat = Path(f"/proc/{process.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


def nowhere(folder: Path) -> str:
    return str(folder / "nowhere")


def nobody_listens(folder: Path) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(folder / "gone"))
    return str(folder / "gone")


def a_folder(folder: Path) -> str:
    return str(folder)


def too_long(folder: Path) -> str:
    return str(folder / ("x" * 200))


def of_another_kind(_: Path) -> str:
    return "vsock:2:9999"


@pytest.mark.only("sqlite", because="nothing of systemd's socket depends on the databases")
@pytest.mark.parametrize("address", [nowhere, nobody_listens, a_folder, too_long, of_another_kind])
@pytest.mark.parametrize("command", ["run", "gateway"])
def test_a_socket_of_systemds_that_takes_nothing_is_one_warning_and_costs_nothing(
    stores: Stores, tmp_path: Path, address: Callable[[Path], str], command: str
) -> None:
    env = {"NOTIFY_SOCKET": address(tmp_path), "WATCHDOG_USEC": "400000"}
    with start_relay(stores, **env) if command == "run" else start_gateway(stores, **env) as started:
        started.wait_for("started" if command == "run" else "listening")
        if command == "run":
            started.wait_until_delivered(*(stores.create().invite.id for _ in range(3)))
        assert started.terminate() == 0
    assert len(started.events("systemd_not_told")) == 1


@pytest.mark.only("sqlite", because="nothing of systemd's socket depends on the databases")
def test_what_a_full_socket_did_not_take_is_said_again_and_nobody_waits(stores: Stores, systemd: Systemd) -> None:
    fill(systemd)
    with running_relay(stores, **systemd.env) as worker:
        worker.wait_for("systemd_not_told")
        worker.wait_until_delivered(stores.create().invite.id)
        systemd.forget()
        systemd.wait_for(READY)
        assert worker.terminate() == 0


def fill(systemd: Systemd) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                sender.sendto(b"X=1", systemd.address)


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("environment", "watches", "every"),
    [
        ({}, False, None),
        ({"NOTIFY_SOCKET": ""}, False, None),
        ({"WATCHDOG_USEC": "4000000"}, False, None),
        ({"NOTIFY_SOCKET": "/run/n"}, False, 2 * SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "4000000"}, True, SECOND),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "4000000"}, True, SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "25000000"}, True, 2 * SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}, True, SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": "1"}, False, 2 * SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "0"}, False, 2 * SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "-5"}, False, 2 * SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "soon"}, False, 2 * SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "9" * 40}, False, 2 * SECOND),
        ({"NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "9" * 5000}, False, 2 * SECOND),
    ],
)
def test_who_is_told_and_how_often_is_as_systemd_said(
    environment: dict[str, str], watches: bool, every: timedelta | None
) -> None:
    found = systemd_of(environment)
    assert (found.watches, found.every) == (watches, every)
