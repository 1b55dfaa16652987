"""The worker: drains at every wake-up, and lets APScheduler run what is periodic."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from itertools import chain

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outbox import DatabaseMissingError, Destination, Outcome, reading, statements
from outbox.clock import now_ms
from outbox.database import file_locks
from outbox.database.sqlite import has_wal_bug
from outbox.leases import Leases
from outbox.redact import MAX_REASON, reason_of
from outbox.settle import Settled
from outbox.wakeups.wake import WakeListener, listen
from relay import sigterm
from relay.backoff import Breaker
from relay.destinations.port import GatewayUnreachableError, GatewayUnusableError, Port
from relay.destinations.schemes import known_as, shown, shown_whole
from relay.drain import Drain
from relay.errors import OtherGatewayError, UnreachableError
from relay.introduction import Introduction
from relay.left import refuse_what_cannot_be_drained
from relay.noted import Noted
from relay.open import answers_within
from relay.periodic import Periodic, renewed_every, schedule
from relay.progress import AwaitedGateway, Progress
from relay.settings import Settings
from relay.systemd import Systemd
from relay.urls import assistants

# How often shards that another relay holds are looked at while waiting for the whole outbox to be empty.
LOOK_AGAIN_SECONDS = 0.2

log = structlog.get_logger()


@dataclass(slots=True)
class Worker:
    """One relay. `run` returns after `stop`, with the batch in hand settled and the leases released."""

    outbox: Engine
    gateway: Port
    settings: Settings
    on_settled: Callable[[Sequence[Settled]], None] = lambda _: None
    new_gateway: bool = False
    """From now on the outbox drains into this gateway, whichever it drained into before."""
    systemd: Systemd = field(default_factory=Systemd)
    """Told that it is ready, that it works, that it stops."""
    interrupted: bool = False
    """A signal asked it to stop."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _unbalanced: threading.Event = field(default_factory=threading.Event)
    _progress: Progress = field(init=False)
    _noted: Noted = field(init=False)

    def __post_init__(self) -> None:
        self._progress = Progress(self.settings.lease)

    def run(self, *, until_empty: bool = False) -> None:
        """Drains until stopped, or with ``until_empty`` until the gateway answers and nothing in the outbox is due.

        Only with ``until_empty`` does trouble with either side end it, as `UnreachableError`; otherwise it waits and
        goes on by itself. Call it from the main thread: SIGTERM stops it, and SIGINT unless it was ignored before.
        """
        gateway = AwaitedGateway(self.gateway, self._progress, answers_within(self.settings))
        introduction = self._introduction(gateway)
        leases = leases_of(self.outbox, self.settings)
        self._noted = Noted(leases)
        with listen(self.outbox, leases.owner[-8:]) as listener, self._signals(listener):
            _warn(listener, self.outbox)
            drain = Drain(
                self.outbox,
                gateway,
                leases,
                self.settings,
                listener.wait,
                listener.woken_within,
                introduction.notice_a_restore,
            )

            def look(balance: bool) -> None:
                if balance:
                    self._unbalanced.set()
                listener.set()

            is_made = self._progress.is_made
            periodic = schedule(self.settings, self.outbox, leases, look, self._stop, is_made, self.systemd)
            self._progress.came_round()
            look(True)
            periodic.start()
            log.info("started", relay=leases.owner, version=leases.version, **self._stores())
            self.systemd.ready()
            try:
                self._loop(drain, introduction, listener, periodic, until_empty)
            finally:
                self.systemd.stopping()
                self._stop.set()
                periodic.shutdown()
                _release(leases, introduction)
                log.info("stopped", relay=leases.owner)

    def _stores(self) -> dict[str, str]:
        """What it drains, and into what, without a password."""
        source = self.outbox.url.render_as_string(hide_password=False)
        return {"assistant_db": shown_whole(source), "gateway": shown_whole(self.settings.gateway)}

    def _introduction(self, gateway: Port) -> Introduction:
        """Of this relay to its gateway; refused before anybody sees it. Where a side is down, the loop tries again.

        What is no gateway now is refused too, unlike one that became so while this relay drained into it.
        """
        url = known_as(self.settings.gateway)
        introduction = Introduction(self.outbox, gateway, Destination.GATEWAY, url, self.new_gateway)
        with suppress(GatewayUnreachableError, DBAPIError, DatabaseMissingError):
            try:
                introduction.make()
            except GatewayUnusableError as error:
                raise UnreachableError(str(error)) from error
        return introduction

    def _loop(
        self, drain: Drain, introduction: Introduction, listener: WakeListener, periodic: Periodic, until_empty: bool
    ) -> None:
        breaker, trouble = Breaker(self.settings), Breaker(self.settings)
        while not self.interrupted:
            self._progress.came_round()
            if trouble.is_open and trouble.seconds_to_probe() > 0:
                self._rest(listener, periodic, trouble.seconds_to_probe())
                continue
            try:
                wait = self._turn(drain, introduction, breaker)
                if until_empty and not breaker.is_open:
                    wait = LOOK_AGAIN_SECONDS
                    if self._is_empty(drain):
                        refuse_what_cannot_be_drained(drain)
                        return
                    self._probe_for_others(drain, breaker)
                trouble.close()
            except (DBAPIError, DatabaseMissingError) as error:
                reason = reason_of(error)
                url = self.settings.assistant_db
                if until_empty:
                    raise UnreachableError(f"{assistants(url)} cannot be used: {reason}") from error
                wait = trouble.failed().total_seconds()
                log.warning(
                    "outbox_unreachable", database=shown(url), reason=reason, next_try_in_seconds=round(wait, 1)
                )
            if until_empty and breaker.is_open:
                raise UnreachableError(
                    f"the gateway cannot be reached: {breaker.reason}; nothing was lost, run it again"
                )
            if not self.interrupted:
                longest = self.settings.poll_interval.total_seconds()
                self._rest(listener, periodic, longest if wait is None else min(wait, longest))

    def _rest(self, listener: WakeListener, periodic: Periodic, seconds: float) -> None:
        """Waits for a wake-up, but comes round as often as leases are renewed: that asks for the loop's progress, and
        this wait goes by no clock that can be set."""
        listener.wait(min(seconds, renewed_every(self.settings).total_seconds()))
        periodic.wake()

    def _turn(self, drain: Drain, introduction: Introduction, breaker: Breaker) -> float | None:
        """Drains while there is something due; returns the seconds to wait, or None to wait for a wake-up."""
        self._balance_if_due(drain, introduction)
        if breaker.is_open or not introduction.is_made:
            if breaker.seconds_to_probe() > 0:
                return breaker.seconds_to_probe()
            try:
                # Again after each outage: the gateway may have been restored, upgraded, or replaced by another.
                introduction.make()
            except (GatewayUnreachableError, OtherGatewayError) as error:
                if isinstance(error, OtherGatewayError) and not introduction.is_made:
                    raise
                return self._down(breaker, str(error))
        while not self.interrupted:
            self._progress.came_round()
            settled = drain.batch()
            unreachable = next((one for one in settled if one.verdict.outcome is Outcome.UNREACHABLE), None)
            if unreachable is not None:
                if any(one.verdict.outcome is Outcome.DELIVERED for one in settled):
                    # It answers others: this is the first trouble, not one more of an outage that goes on.
                    breaker.close()
                    self._noted.answered_others()
                return self._down(breaker, unreachable.verdict.reason or "")
            if breaker.is_open:
                log.info("gateway_reachable_again")
                breaker.close()
            self._noted.gateway_up()
            self._noted.stands(drain.closed.reasons, drain.apart)
            if not settled:
                return None
            if any(one.verdict.outcome is Outcome.DELIVERED for one in settled):
                self._noted.delivered()
            self.on_settled(settled)
            if any(one.verdict.outcome is Outcome.LEASE_LOST for one in settled):
                # At once: renewing proves the leases that still stand and forgets the others. Until then the same batch
                # would be refused by the fence, or delivered, again and again.
                drain.leases.renew()
                self._unbalanced.set()
            self._balance_if_due(drain, introduction)
        return None

    def _down(self, breaker: Breaker, reason: str) -> float:
        """`_opened`, and noted for `relay status` to show."""
        wait = _opened(breaker, reason)
        self._noted.gateway_down(reason)
        return wait

    def _balance_if_due(self, drain: Drain, introduction: Introduction) -> None:
        if self._unbalanced.is_set():
            self._unbalanced.clear()
            introduction.refuse_if_moved()
            introduction.note_batches()
            by_relay = drain.leases.balance()
            if by_relay:
                log.warning("took_over_lapsed_shards", shards=sorted(chain(*by_relay)), relays=len(by_relay))
            for lapsed in by_relay:
                drain.suspect(lapsed)

    def _is_empty(self, drain: Drain) -> bool:
        """Whether nothing is due, in any relay's shards, that the gateway could take."""
        now = now_ms()
        too_far = self.settings.retry_policy.too_far(now)
        with reading(self.outbox) as connection:
            left: list[statements.Left] = [*drain.closed.all(), *drain.apart.left()]
            any_due = statements.anything_due(connection, Destination.GATEWAY, now, too_far, left)
            empty = drain.apart.is_full or not any_due
        # What is left is in shards of another relay, which may be gone.
        self._unbalanced.set()
        return empty

    def _probe_for_others(self, drain: Drain, breaker: Breaker) -> None:
        """What is due may all lie in shards of a relay that waits for the gateway itself; then waiting is in vain."""
        if not breaker.is_open:
            try:
                drain.gateway.probe()
            except GatewayUnreachableError as error:
                _opened(breaker, str(error))

    @contextmanager
    def _signals(self, listener: WakeListener) -> Iterator[None]:
        def stop(*_: object) -> None:
            # No lock may be taken here: the code that was interrupted may hold it.
            self.interrupted = True
            listener.set()

        before = {number: signal.signal(number, stop) for number in sigterm.that_stop()}
        self.interrupted = self.interrupted or sigterm.came()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def leases_of(outbox: Engine, settings: Settings) -> Leases:
    """Those of a relay that says of itself what others should see."""
    try:
        program = metadata.version("invite-relay")
    except metadata.PackageNotFoundError:
        program = "unknown"
    gateway = shown(settings.gateway)[:MAX_REASON]
    return Leases(outbox, settings.lease, Destination.GATEWAY, version=program, gateway=gateway)


def _opened(breaker: Breaker, reason: str) -> float:
    wait = breaker.failed(reason).total_seconds()
    log.warning("gateway_unreachable", reason=reason, next_probe_in_seconds=round(wait, 1))
    return wait


def _release(leases: Leases, introduction: Introduction) -> None:
    try:
        leases.release()
        introduction.note_batches()
    except (DBAPIError, DatabaseMissingError) as error:
        # They run out by themselves.
        log.warning("leases_not_released", reason=reason_of(error))


def _warn(listener: WakeListener, outbox: Engine) -> None:
    if listener.problem is not None:
        log.warning("no_wake_ups", reason=listener.problem, effect="messages are found by polling only")
    version = has_wal_bug() if outbox.dialect.name == "sqlite" else None
    if version is not None:
        log.warning(
            "sqlite_has_wal_bug",
            version=version,
            effect="a database written by several connections can be corrupted",
            advice="use a SQLite from 3.51.3, for instance by installing pysqlite3",
        )
    unlocked = file_locks.problem() if outbox.dialect.name == "sqlite" else None
    if unlocked is not None:
        log.warning(
            "sqlite_locks_not_kept",
            reason=unlocked,
            effect="a program that opens and closes a database's file in the process of a connection drops its locks",
            advice="copy a database by VACUUM INTO only, and from another process",
        )
