"""What a relay notes of itself is there at once, is true afterwards, and hides nothing that still needs a person."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from outbox.leases import Leases
from outbox.message import Destination
from relay.apart import SetApart
from relay.noted import Noted, standing_and_last
from tests.conftest import Stores, message_of, rows
from tests.relay.rig import settings_of


@contextmanager
def noting(stores: Stores) -> Iterator[Noted]:
    leases = Leases(stores.source, settings_of(stores).lease, Destination.GATEWAY)
    leases.renew()
    yield Noted(leases)
    leases.release()


def noted(stores: Stores) -> dict[str, Any]:
    (found,) = rows(stores.source, "SELECT last_error, down_since, last_delivered_at FROM outbox_relays")
    return found


def apart(stores: Stores, *seqs: int) -> SetApart:
    found = SetApart()
    for row in stores.messages():
        if row["seq"] in seqs:
            found.add(message_of(row), "hands off")
    return found


def test_that_the_gateway_is_down_or_up_again_is_written_before_the_next_renewal(stores: Stores) -> None:
    with noting(stores) as one:
        one.gateway_down("timed out")
        down = noted(stores)
        one.gateway_up()
        up = noted(stores)
    assert down["down_since"] is not None
    assert standing_and_last(down["last_error"]) == (None, "timed out")
    assert (up["down_since"], standing_and_last(up["last_error"])) == (None, (None, "timed out"))


def test_an_outage_that_goes_on_began_when_it_began(stores: Stores) -> None:
    with noting(stores) as one:
        one.gateway_down("first")
        began = noted(stores)["down_since"]
        one.gateway_down("second")
        one.leases.renew()
        assert noted(stores) == {"last_error": "second", "down_since": began, "last_delivered_at": None}
        one.answered_others()
        one.gateway_down("third")
        assert noted(stores)["down_since"] > began


def test_what_needs_a_person_is_written_at_once_and_no_later_error_hides_it(stores: Stores) -> None:
    for _ in range(3):
        stores.create()
    with noting(stores) as one:
        one.stands({"invite.mirror": "newer than this gateway"}, apart(stores, 2, 3))
        first = standing_and_last(noted(stores)["last_error"])
        one.gateway_down("x" * 5_000)
        later = standing_and_last(noted(stores)["last_error"])
        one.stands({}, apart(stores))
        over = standing_and_last(noted(stores)["last_error"])
    standing, error = first
    assert error is None
    assert standing is not None
    for words in ("2 messages are set apart, such as 2", "hands off", "topic invite.mirror is closed: newer than"):
        assert words in standing
    assert later[0] == standing
    assert str(later[1]).startswith("xxx")
    assert over[0] is None


def test_a_clock_that_is_wrong_needs_a_person(stores: Stores) -> None:
    with noting(stores) as one:
        one.stands({}, SetApart())
        assert noted(stores)["last_error"] is None
        for ahead, words in ((3_600_000, "3600 s ahead of"), (-7_000, "7 s behind")):
            one.leases.clock_ahead_ms = ahead
            one.stands({}, SetApart())
            assert f"clock is {words} the database's" in noted(stores)["last_error"]


def test_the_same_is_written_once(stores: Stores) -> None:
    with noting(stores) as one:
        one.stands({"t": "closed"}, SetApart())
        before = rows(stores.source, "SELECT seen_at FROM outbox_relays")
        one.leases.release()
        one.stands({"t": "closed"}, SetApart())
        assert rows(stores.source, "SELECT seen_at FROM outbox_relays") == []
        assert before
