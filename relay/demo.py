"""The demo: the whole story with real processes in a temporary folder, and figures at the end."""

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import upsert_contact
from outbox import Destination, open_engine, reading, statements
from relay.compare import compare
from relay.console import Printer
from relay.differences import Comparison
from relay.errors import UnrepairedError
from relay.make_stores import init_stores
from relay.settings import Settings

INVITES_A_PHASE = 150
EVERY_SECONDS = 0.005
CONTACT = "co-demo"
# A limit for a machine that is busy with other things; on an idle one it takes a few.
DRAINED_WITHIN_SECONDS = 60.0


class Daemon:
    """The assistant's process, which knows nothing of the gateway."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, **request: Any) -> dict[str, Any]:
        requests, answers = _pipes(self._process)
        requests.write(json.dumps(request) + "\n")
        requests.flush()
        answer: dict[str, Any] = json.loads(answers.readline())
        return answer

    def create(self) -> tuple[list[str], dict[str, str]]:
        """Creates the invites of one phase; their ids, and what it cost."""
        made = self.ask(create=INVITES_A_PHASE, contact_id=CONTACT, every_seconds=EVERY_SECONDS)
        return made["ids"], latency(made["seconds"])


def run_demo(printer: Printer) -> None:
    """Raises `UnrepairedError` unless both stores agree in the end."""
    with tempfile.TemporaryDirectory(prefix="relay-demo-") as folder:
        figures = _tell(Path(folder), printer)
    printer.record(figures, "What the demo saw")
    if not figures["stores_agree"]:
        raise UnrepairedError("the stores do not agree")


def latency(seconds: list[float]) -> dict[str, str]:
    """p50 and p99 in words."""
    cut = statistics.quantiles(seconds, n=100)
    return {"p50": f"{cut[49] * 1000:.2f} ms", "p99": f"{cut[98] * 1000:.2f} ms"}


def _tell(folder: Path, printer: Printer) -> dict[str, Any]:
    stores = Settings(assistant_db=f"sqlite:///{folder / 'assistant.db'}", gateway=f"sqlite:///{folder / 'gateway.db'}")
    wired = stores.model_copy(update={"gateway": f"unix://{folder / 'socket' / 'gateway.sock'}"})
    log = folder / "relay.log"
    init_stores(stores)
    with ExitStack() as stack:
        source, mirror = (open_engine(url, create=False) for url in (stores.assistant_db, stores.gateway))
        stack.callback(source.dispose)
        stack.callback(mirror.dispose)
        with Session(mirror) as session, session.begin():
            upsert_contact(session, id=CONTACT, display_name="Demo")
        daemon = stack.enter_context(_daemon(stores))
        # The first calls compile statements and open connections; they would only blur the figures.
        warmed_up = len(daemon.create()[0])

        printer.say("1. A gateway serves its socket, a relay runs; the daemon creates invites.")
        with _relay(wired, log):
            with _gateway(wired, stores, log) as gateway:
                first, up = daemon.create()
                _until_drained(source, log)

                printer.say("2. The gateway is wedged: stopped in its tracks. The daemon goes on, unaware.")
                gateway.send_signal(signal.SIGSTOP)
                second, wedged = daemon.create()
                used = daemon.ask(use=first[:40])["changed"]
                revoked = daemon.ask(revoke=first[40:80] + second[:20])["changed"]

                printer.say("3. The gateway is killed with SIGKILL, and later the relay too.")
                gateway.kill()
            third, absent = daemon.create()
        waiting = _waiting(source)

        printer.say("4. Another gateway and another relay are started.")
        started = time.perf_counter()
        with _gateway(wired, stores, log), _relay(wired, log):
            _until_drained(source, log)
            drained = time.perf_counter() - started
            printer.say("5. Every row is replayed: nothing that was used or revoked may open again.")
            _command(wired, "replay", "--all")
            _until_drained(source, log)
        return {
            "invites_created": warmed_up + len(first) + len(second) + len(third),
            "invites_used": used,
            "invites_revoked": revoked,
            "create_invite_gateway_up": up,
            "create_invite_gateway_wedged": wedged,
            "create_invite_gateway_gone": absent,
            "messages_waiting_after_the_outage": waiting,
            "drained_after_their_return_within": f"{drained:.2f} s, the start of both processes included",
            **_outcome(source, mirror),
        }


def _outcome(source: Engine, mirror: Engine) -> dict[str, Any]:
    seen = Comparison()
    differences = list(compare(source, mirror, seen))
    with reading(source) as connection:
        states = statements.count_by_state(connection, Destination.GATEWAY)
        attempts = connection.exec_driver_sql("SELECT max(attempts) FROM outbox_messages").scalar_one()
    with reading(mirror) as connection:
        opened = connection.exec_driver_sql(
            "SELECT status, count(*) FROM ingress_invites GROUP BY status ORDER BY status"
        )
        statuses = {str(row[0]): int(row[1]) for row in opened}
    return {
        "messages": states,
        "attempts_burnt_by_the_outage": attempts,
        "gateway_statuses": statuses,
        "rows_that_differ": len(differences),
        "stores_agree": not differences and seen.assistant_rows == seen.gateway_rows,
    }


@contextmanager
def _daemon(settings: Settings) -> Iterator["Daemon"]:
    command = [sys.executable, "-P", "-m", "relay.demo_daemon", settings.assistant_db]
    with subprocess.Popen(command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Daemon(process)


@contextmanager
def _gateway(wired: Settings, stores: Settings, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """`relay gateway` as operators start it, ended by SIGKILL."""
    with _process(["gateway", "--listen", wired.gateway, "--db", stores.gateway], wired, log) as process:
        yield process


@contextmanager
def _relay(wired: Settings, log: Path) -> Iterator[None]:
    """`relay run` as operators start it, ended by SIGKILL."""
    with _process(["run"], wired, log):
        yield


@contextmanager
def _process(arguments: list[str], settings: Settings, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    # Probes come often, so that the demo need not wait for the next one.
    environment = _environment(settings) | {"RELAY_PROBE_LONGEST": "0.5", "RELAY_LOG_FORMAT": "json"}
    with log.open("a") as lines:
        command = [sys.executable, "-P", "-m", "cli", *arguments]
        process = subprocess.Popen(command, env=os.environ | environment, stdout=lines, stderr=lines)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _command(settings: Settings, *arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-P", "-m", "cli", *arguments],
        env=os.environ | _environment(settings),
        check=True,
        capture_output=True,
    )


def _environment(settings: Settings) -> dict[str, str]:
    return {"RELAY_ASSISTANT_DB": settings.assistant_db, "RELAY_GATEWAY": settings.gateway}


def _waiting(source: Engine) -> int:
    with reading(source) as connection:
        states = statements.count_by_state(connection, Destination.GATEWAY)
    return states.get("pending", 0) + states.get("retrying", 0)


def _until_drained(source: Engine, log: Path) -> None:
    deadline = time.monotonic() + DRAINED_WITHIN_SECONDS
    while _waiting(source):
        if time.monotonic() > deadline:
            raise UnrepairedError(f"messages still wait; the relay said: {log.read_text()[-500:].strip()}")
        time.sleep(0.02)


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("started without pipes")
    return process.stdin, process.stdout
