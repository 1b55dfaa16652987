"""What counts as progress: a loop that comes round within the lease, or an answer that is awaited within its time."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from outbox import DELIVERED, Message, Verdict
from outbox.fence import Prove
from relay.destinations.port import Delivery, GatewayFacts, GatewayUnreachableError
from relay.progress import AwaitedGateway, Progress
from tests.conftest import allowed
from tests.relay.rig import Anonymous, answers

NO_TIME, LONG = timedelta(0), timedelta(hours=1)


class Asking(Anonymous):
    """A gateway that notes whether progress is made while it is asked, and cannot be reached."""

    def __init__(self, progress: Progress) -> None:
        self.seen: list[bool] = []
        self._progress = progress

    def deliver(self, messages: Sequence[Delivery], _prove: Prove) -> list[Verdict]:
        self.probe()
        return [DELIVERED for _ in messages]

    def probe(self) -> GatewayFacts:
        self.seen.append(self._progress.is_made())
        raise GatewayUnreachableError("down")


def test_a_loop_that_came_round_has_as_long_as_a_lease() -> None:
    slow, quick = Progress(LONG), Progress(NO_TIME)
    slow.came_round()
    quick.came_round()
    assert (slow.is_made(), quick.is_made()) == (True, False)


def test_an_answer_is_awaited_as_long_as_it_may_take_and_no_longer_than_it_took() -> None:
    progress = Progress(NO_TIME)
    with progress.awaiting(3600):
        awaited = progress.is_made()
    with progress.awaiting(0):
        late = progress.is_made()
    assert (awaited, progress.is_made(), late) == (True, False, False)


def test_an_answer_that_may_take_less_than_a_lease_does_not_shorten_the_turn() -> None:
    progress = Progress(LONG)
    with progress.awaiting(0):
        assert progress.is_made()


@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_whatever_a_gateway_is_asked_counts_as_awaited_for_its_own_time(seconds: float) -> None:
    progress = Progress(NO_TIME)
    asking = Asking(progress)
    gateway = AwaitedGateway(asking, progress, seconds)
    messages: list[Message] = []
    for ask in (gateway.probe, lambda: answers(gateway, messages, allowed)):
        with pytest.raises(GatewayUnreachableError):
            ask()
    assert asking.seen == [seconds > 0] * 2
    assert not progress.is_made()
