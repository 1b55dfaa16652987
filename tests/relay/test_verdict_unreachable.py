"""The row "unreachable" of the verdict table: nothing is written to the outbox, and all is delivered afterwards."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import Connection, Engine, event

from outbox import Message, Outcome, open_engine, writing
from relay.gateway import GatewayUnreachableError
from relay.open import open_gateway
from tests.conftest import Stores
from tests.relay.rig import Meddling, drain_all, draining, everything, gateway_of, outcomes, settings_of

Trouble = Callable[[Stores], AbstractContextManager[None]]


@contextmanager
def missing(stores: Stores) -> Iterator[None]:
    stores.mirror.dispose()
    there, away = stores.folder / "gateway.db", stores.folder / "away.db"
    there.rename(away)
    yield
    assert not there.exists(), "a missing gateway must not be created"
    away.rename(there)


@contextmanager
def write_locked(stores: Stores) -> Iterator[None]:
    with writing(stores.mirror):
        yield


@contextmanager
def not_initialised(stores: Stores) -> Iterator[None]:
    with missing(stores):
        path = stores.folder / "gateway.db"
        engine = open_engine(stores.mirror_url)
        with writing(engine) as connection:
            connection.exec_driver_sql("CREATE TABLE other (id)")
        engine.dispose()
        yield
        path.unlink()


@contextmanager
def not_a_database(stores: Stores) -> Iterator[None]:
    with missing(stores):
        path = stores.folder / "gateway.db"
        path.write_bytes(b"this is no database at all\n" * 400)
        yield
        path.unlink()


@contextmanager
def a_folder(stores: Stores) -> Iterator[None]:
    with missing(stores):
        path = stores.folder / "gateway.db"
        path.mkdir()
        yield
        path.rmdir()


TROUBLES = [missing, write_locked, not_initialised, not_a_database, a_folder]


@pytest.mark.parametrize("trouble", TROUBLES)
def test_an_unreachable_gateway_leaves_the_outbox_untouched_and_costs_no_attempt(
    stores: Stores, trouble: Trouble
) -> None:
    ids = [stores.create().invite.id for _ in range(3)]
    before = everything(stores)
    with draining(stores) as drain:
        with trouble(stores):
            assert outcomes(drain_all(drain)) == [Outcome.UNREACHABLE] * 3
            assert everything(stores) == before
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED] * 3
    assert all(stores.mirrored(id_) is not None for id_ in ids)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_a_probe_says_in_words_why_the_gateway_cannot_be_reached(stores: Stores, trouble: Trouble) -> None:
    with gateway_of(stores) as gateway:
        with trouble(stores), pytest.raises(GatewayUnreachableError) as caught:
            gateway.probe()
        gateway.probe()
    assert len(str(caught.value)) > 5


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


def test_a_gateway_replaced_during_the_delivery_is_delivered_to_again(stores: Stores) -> None:
    stores.mirror.dispose()
    shutil.copy(stores.folder / "gateway.db", stores.folder / "copy.db")
    invite = stores.create().invite
    path = stores.folder / "gateway.db"

    def replace_once() -> None:
        if (stores.folder / "copy.db").exists():
            path.unlink()
            (stores.folder / "copy.db").rename(path)

    with _replacing(stores, replace_once) as gateway, draining(stores, gateway) as drain:
        assert outcomes(drain_all(drain)) == [Outcome.DELIVERED]
    assert len(gateway.delivered) == 2
    assert not (stores.folder / "copy.db").exists()
    assert stores.mirrored(invite.id) is not None, "delivered means: in the file that stands there now"


def test_a_batch_is_tried_three_times_before_the_gateway_counts_as_unreachable(stores: Stores) -> None:
    stores.create()
    with gateway_of(stores) as real, missing(stores):
        gateway = Meddling(real)
        with draining(stores, gateway) as drain:
            drain.batch()
    assert len(gateway.delivered) == 3


def test_a_short_outage_inside_a_delivery_is_not_even_noticed(stores: Stores) -> None:
    stores.create()
    away = stores.folder / "away.db"
    stores.mirror.dispose()
    (stores.folder / "gateway.db").rename(away)
    with gateway_of(stores) as real:
        gateway = Meddling(real)

        def back_at_the_third_try(_: Sequence[Message]) -> None:
            if len(gateway.delivered) == 3:
                away.rename(stores.folder / "gateway.db")

        gateway.before = back_at_the_third_try
        with draining(stores, gateway) as drain:
            assert outcomes(drain.batch()) == [Outcome.DELIVERED]


@contextmanager
def _replacing(stores: Stores, replace: Callable[[], None]) -> Iterator[Meddling]:
    """A gateway whose file is replaced while its transaction is open: seen from inside, the commit succeeds."""

    def at_commit(connection: Connection) -> None:
        if connection.engine.url.database == str(stores.folder / "gateway.db"):
            replace()

    real = open_gateway(settings_of(stores))
    event.listen(Engine, "commit", at_commit)
    try:
        yield Meddling(real)
    finally:
        event.remove(Engine, "commit", at_commit)
        real.close()
