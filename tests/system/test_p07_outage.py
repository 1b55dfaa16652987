"""P7: an outage costs no attempts and kills no message, however long it lasts and whatever happens to the relay."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory, StepTickTimeFactory, TickingDateTimeFactory

from outbox import Outcome, Verdict
from outbox.fence import Prove
from outbox.settle import Settled
from relay.backoff import Breaker
from relay.destinations.port import Delivery, GatewayFacts, GatewayUnreachableError
from relay.worker import Worker
from tests.conftest import Stores
from tests.relay.outages import missing
from tests.relay.rig import Around, drain_all, draining, everything, gateway_of, outcomes, settings_of
from tests.relay.test_suspects import after_a_crash
from tests.system.processes import relay, running_relay

START = datetime(2026, 5, 13, 14, 11, tzinfo=UTC)


@dataclass(slots=True)
class DownForHours(Around):
    """A gateway that is gone for the first ``asked`` questions after it was claimed; an hour passes with each."""

    clock: FrozenDateTimeFactory | StepTickTimeFactory | TickingDateTimeFactory
    asked: int
    deliveries: int = 0
    probes: int = 0
    is_claimed: bool = False

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        self.is_claimed = True
        return self.inner.claim(assistant, facts, take_over=take_over)

    def deliver(self, messages: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        if self._is_down():
            self.deliveries += 1
            return [Verdict(Outcome.UNREACHABLE, "down")] * len(messages)
        return self.inner.collect(self.inner.send(messages, prove))

    def probe(self) -> GatewayFacts:
        if self._is_down():
            self.probes += 1
            raise GatewayUnreachableError("down")
        return self.inner.probe()

    def _is_down(self) -> bool:
        if not self.is_claimed or self.asked == 0:
            return False
        self.asked -= 1
        self.clock.tick(timedelta(hours=1))
        return True


@dataclass(slots=True)
class StopWhenDone:
    """Ends the worker under test once this many messages are settled."""

    left: int
    seen: list[Settled] = field(default_factory=list)

    def __call__(self, settled: Sequence[Settled]) -> None:
        self.seen.extend(one for one in settled if one.state is not None)
        if len(self.seen) >= self.left:
            signal.raise_signal(signal.SIGTERM)


def test_p07_after_a_simulated_outage_of_two_days_all_is_delivered_without_one_attempt(stores: Stores) -> None:
    # The clock moves a little with each look at it, or no wait would ever be over.
    with freeze_time(START, auto_tick_seconds=0.01) as clock, gateway_of(stores) as real:
        for _ in range(3):
            stores.create()
        gateway = DownForHours(real, clock, asked=48)
        # The waits between probes are real ones here, hence the short limit.
        settings = settings_of(stores, probe_longest=0.001)
        Worker(stores.source, gateway, settings, on_settled=StopWhenDone(3)).run()
        ended = clock()
    assert ended - START.replace(tzinfo=None) >= timedelta(hours=48)
    assert gateway.deliveries == 1, "from the first trouble on the gateway is only probed"
    assert gateway.probes == 47
    assert [(row["state"], row["attempts"], row["last_error"]) for row in stores.messages()] == [
        ("delivered", 0, None)
    ] * 3


def test_p07_the_waits_between_probes_grow_and_stay_bounded(stores: Stores) -> None:
    with freeze_time(START) as clock:
        breaker = Breaker(settings_of(stores))
        waits = []
        for _ in range(2_000):
            waits.append(breaker.failed("down").total_seconds())
            assert breaker.seconds_to_probe() > 0
            clock.tick(waits[-1] + 0.001)
            assert breaker.seconds_to_probe() == 0
    assert waits[0] < 1
    assert waits[:7] == sorted(waits[:7])
    assert set(waits[10:]) == {30.0}


def test_p07_the_outage_counts_against_no_deadline_of_a_message_that_was_never_refused(stores: Stores) -> None:
    with freeze_time(START) as clock:
        stores.create()
        with draining(stores) as drain:
            with missing(stores):
                for _ in range(30):
                    assert outcomes(drain_all(drain)) == [Outcome.UNREACHABLE]
                    clock.tick(timedelta(hours=1))
            assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]


def test_p07_suspects_of_a_crash_survive_hours_of_outage_untouched(stores: Stores) -> None:
    with freeze_time(START) as clock:
        for _ in range(3):
            stores.create()
        before = everything(stores)
        with after_a_crash(stores), draining(stores) as drain:
            with missing(stores):
                for _ in range(30):
                    assert outcomes(drain_all(drain)) == [Outcome.UNREACHABLE]
                    clock.tick(timedelta(hours=1))
            assert everything(stores) == before
            assert outcomes(drain_all(drain)) == [Outcome.DELIVERED] * 3


def test_p07_a_relay_killed_again_and_again_during_an_outage_costs_no_attempt(stores: Stores) -> None:
    for _ in range(20):
        stores.create()
    before = everything(stores)
    with missing(stores):
        for _ in range(4):
            with running_relay(stores) as worker:
                worker.wait_for("gateway_unreachable")
                worker.kill()
        assert everything(stores) == before
    assert relay(stores, "run", "--until-empty").code == 0
    assert {(row["state"], row["attempts"]) for row in stores.messages()} == {("delivered", 0)}
