"""The row "unreachable" of the verdict table: nothing is written to the outbox, and all is delivered afterwards."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, Engine, event

from outbox import Outcome
from relay.destinations.port import Delivery, GatewayUnreachableError
from relay.open import open_gateway
from tests.conftest import Stores
from tests.databases import end_connections, name_of
from tests.relay.outages import OF_FILES, OF_SERVERS, TROUBLES, Trouble, being_indexed, missing
from tests.relay.rig import Meddling, drain_all, draining, everything, gateway_of, outcomes, settings_of


def assert_untouched_until_it_is_over(stores: Stores, trouble: Trouble) -> None:
    ids = [stores.create().invite.id for _ in range(3)]
    before = everything(stores)
    with draining(stores) as drain:
        with trouble(stores):
            assert outcomes(drain_all(drain)) == [Outcome.UNREACHABLE] * 3
            assert everything(stores) == before
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED] * 3
    assert all(stores.mirrored(id_) is not None for id_ in ids)


def assert_said_in_words(stores: Stores, trouble: Trouble) -> None:
    with gateway_of(stores) as gateway:
        with trouble(stores), pytest.raises(GatewayUnreachableError) as caught:
            gateway.probe()
        gateway.probe()
    assert len(str(caught.value).split()) >= 3
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_unreachable_gateway_leaves_the_outbox_untouched_and_costs_no_attempt(
    stores: Stores, trouble: Trouble
) -> None:
    assert_untouched_until_it_is_over(stores, trouble)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_probe_says_in_words_why_the_gateway_cannot_be_reached(stores: Stores, trouble: Trouble) -> None:
    assert_said_in_words(stores, trouble)


@pytest.mark.only("sqlite", because="a server's database is no file")
@pytest.mark.parametrize("trouble", OF_FILES)
def test_something_else_in_the_place_of_the_gateways_file_is_an_outage_that_is_said(
    stores: Stores, trouble: Trouble
) -> None:
    assert_untouched_until_it_is_over(stores, trouble)
    assert_said_in_words(stores, trouble)


@pytest.mark.only("postgresql", because="SQLite refuses no connection, knows no roles and has no standby")
@pytest.mark.parametrize("trouble", OF_SERVERS)
def test_a_server_that_refuses_the_relay_or_its_writes_is_an_outage_that_is_said(
    stores: Stores, trouble: Trouble
) -> None:
    assert_untouched_until_it_is_over(stores, trouble)
    assert_said_in_words(stores, trouble)


@pytest.mark.only("postgresql", because="SQLite has one lock, for the whole database")
def test_a_gateway_that_can_be_read_and_not_written_is_an_outage_although_it_answers_the_probe(stores: Stores) -> None:
    with being_indexed(stores), gateway_of(stores) as gateway:
        gateway.probe()
    assert_untouched_until_it_is_over(stores, being_indexed)


def test_a_gateway_that_goes_while_it_is_open_is_unreachable_and_comes_back_by_itself(stores: Stores) -> None:
    first = stores.create().invite.id
    with gateway_of(stores) as gateway, draining(stores, gateway) as drain:
        drain_all(drain)
        second = stores.create().invite.id
        with missing(stores):
            assert outcomes(drain_all(drain)) == [Outcome.UNREACHABLE]
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert stores.mirrored(first) is not None
    assert stores.mirrored(second) is not None


@pytest.mark.only("sqlite", because="a server's database cannot be replaced under an open transaction")
def test_a_gateway_replaced_during_the_delivery_is_delivered_to_again(stores: Stores) -> None:
    stores.mirror.dispose()
    path, copy = stores.folder / "gateway.db", stores.folder / "copy.db"
    shutil.copy(path, copy)
    invite = stores.create().invite

    def replace_once() -> None:
        if copy.exists():
            path.unlink()
            copy.rename(path)

    # Seen from inside, the commit succeeds.
    with _before_its_commit(stores, replace_once) as gateway, draining(stores, gateway) as drain:
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert len(gateway.delivered) == 2
    assert not copy.exists()
    assert stores.mirrored(invite.id) is not None, "delivered means: in the file that stands there now"


@pytest.mark.only("postgresql", because="SQLite has no connection that could be cut")
def test_a_gateway_whose_connection_is_cut_before_the_commit_is_delivered_to_again(stores: Stores) -> None:
    invite = stores.create().invite
    still_to_cut = [stores.mirror_url]

    def cut_once() -> None:
        for url in still_to_cut:
            end_connections(url)
        still_to_cut.clear()

    with _before_its_commit(stores, cut_once) as gateway, draining(stores, gateway) as drain:
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert len(gateway.delivered) == 2
    assert stores.mirrored(invite.id) is not None


def test_a_batch_is_tried_three_times_before_the_gateway_counts_as_unreachable(stores: Stores) -> None:
    stores.create()
    with gateway_of(stores) as real, missing(stores):
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            drain.batch()
    assert len(gateway.delivered) == 3


def test_a_short_outage_inside_a_delivery_is_not_even_noticed(stores: Stores) -> None:
    stores.create()
    outage = missing(stores)
    with gateway_of(stores) as real:
        gateway = Meddling(real)

        def back_at_the_third_try(_: Sequence[Delivery]) -> None:
            if len(gateway.delivered) == 3:
                outage.__exit__(None, None, None)

        gateway.before = back_at_the_third_try
        with draining(stores, gateway) as drain:
            outage.__enter__()
            assert outcomes(drain.batch()) == [Outcome.DELIVERED]
    assert len(gateway.delivered) == 3


@contextmanager
def _before_its_commit(stores: Stores, work: Callable[[], None]) -> Iterator[Meddling]:
    """The gateway, and work of the test's own while its transaction is open."""

    def at_commit(connection: Connection) -> None:
        if name_of(str(connection.engine.url)) == name_of(stores.mirror_url):
            work()

    real = open_gateway(settings_of(stores))
    event.listen(Engine, "commit", at_commit)
    try:
        yield Meddling(real)
    finally:
        event.remove(Engine, "commit", at_commit)
        real.close()
