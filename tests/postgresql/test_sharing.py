"""Several relays on one database: even shares, as relays join, leave and are killed."""

import random
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time
from sqlalchemy.orm import Session

from assistant_store import create_invite, record_invite_use, revoke_invite
from outbox import SHARDS, open_engine
from outbox.leases import Leases
from outbox.message import Destination
from tests.conftest import CONTACT, Stores, rows, write
from tests.postgresql.shares import clock, create_in, first_end, owner, shards_of, until_shared_evenly
from tests.postgresql.unharmed import assert_unharmed, watch_closing
from tests.postgresql.waiting import until, until_drained, until_settled
from tests.system.processes import FORKSERVER, RelayProcess, running_relay, start_relay

# No shorter: that the shards of a killed relay are taken before its leases run out needs room.
LEASES = {"RELAY_LEASE": "12"}
DAEMONS, TRANSACTIONS = 4, 35


@pytest.fixture
def four_relays(stores: Stores) -> Iterator[list[RelayProcess]]:
    """Started together, and seen to share evenly."""
    with ExitStack() as stack:
        relays = [stack.enter_context(start_relay(stores, **LEASES)) for _ in range(4)]
        for one in relays:
            one.wait_for("started")
        until_shared_evenly(stores, relays)
        assert {len(shards) for shards in shards_of(stores).values()} == {16}
        yield relays


def test_shares_are_even_again_after_a_relay_joining_leaving_or_being_killed(
    stores: Stores, four_relays: list[RelayProcess]
) -> None:
    relays = four_relays
    leaving = relays.pop()
    assert leaving.terminate() == 0
    assert owner(leaving) not in shards_of(stores), "given up, not left to lapse"
    until_shared_evenly(stores, relays)

    killed = relays.pop()
    its_shards, ends_at = shards_of(stores)[owner(killed)], first_end(stores, killed)
    killed.kill()
    until("its shards are taken", lambda: owner(killed) not in shards_of(stores))
    assert clock(stores) < ends_at, "its leases ran out, though its process was seen to be gone"
    until_settled(stores, *create_in(stores, its_shards, 3))
    until_shared_evenly(stores, relays)

    elsewhere = relays.pop()
    its_shards = shards_of(stores)[owner(elsewhere)]
    write(stores.source, "UPDATE outbox_relays SET host = 'elsewhere' WHERE id = :id", id=owner(elsewhere))
    elsewhere.kill()
    until_shared_evenly(stores, relays)
    until_settled(stores, *create_in(stores, its_shards, 3))

    with running_relay(stores, **LEASES) as joining:
        until_shared_evenly(stores, [*relays, joining])
        until_drained(stores, *relays, joining)
    assert set(stores.states()) == {"delivered"}


def be_a_daemon(url: str, seed: int) -> None:
    """Each transaction creates some, and closes or uses most of those of the one before."""
    choose = random.Random(seed)  # noqa: S311 - no secret, and repeatable
    engine = open_engine(url)
    known: list[str] = []
    for _ in range(TRANSACTIONS):
        with Session(engine) as session, session.begin():
            for id_ in known:
                change = choose.choice([record_invite_use, record_invite_use, revoke_invite])
                change(session, id_)
            known = [create_invite(session, source_channel="sms", contact_id=CONTACT).invite.id for _ in range(8)]
    engine.dispose()


def test_p04_p05_p06_four_relays_drain_what_four_daemons_change_and_settle_each_message_once(
    stores: Stores, four_relays: list[RelayProcess]
) -> None:
    watch_closing(stores)
    daemons = [FORKSERVER.Process(target=be_a_daemon, args=(stores.source_url, seed)) for seed in range(DAEMONS)]
    for daemon in daemons:
        daemon.start()
    for daemon in daemons:
        daemon.join(60)
    until_drained(stores, *four_relays)
    assert [one.terminate() for one in four_relays] == [0] * 4

    assert [daemon.exitcode for daemon in daemons] == [0] * DAEMONS
    assert len(stores.messages()) > 2_000
    assert_unharmed(stores, *four_relays)
    delivered = [line for one in four_relays for line in one.events("delivered")]
    assert sum(line["count"] for line in delivered) == stores.states().count("delivered"), "some were settled twice"
    assert all(one.events("delivered") for one in four_relays), "one of them delivered nothing"
    assert rows(stores.source, "SELECT * FROM outbox_leases") == []


@pytest.mark.parametrize("hours", [-1, 1])
def test_the_clock_of_a_relays_host_an_hour_off_changes_no_share_and_ends_no_lease(stores: Stores, hours: int) -> None:
    lease = timedelta(seconds=10)
    right, wrong = (Leases(stores.source, lease, Destination.GATEWAY, owner=name) for name in ("right", "wrong"))

    def take_turns() -> list[list[int]]:
        lapsed = []
        for one in (right, wrong):
            with freeze_time(datetime.now(UTC) + timedelta(hours=hours if one is wrong else 0), tick=True):
                one.renew()
                lapsed += one.balance()
        return lapsed

    turns = [take_turns() for _ in range(3)]

    assert turns == [[], [], []], "nobody's lease was taken for one that ran out"
    assert len(right.tokens) == len(wrong.tokens) == SHARDS // 2
    (left,) = rows(
        stores.source,
        """
        SELECT min(expires_at - now) AS least, max(expires_at - now) AS most FROM outbox_leases,
            (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) AS clock
        """,
    )
    assert 0 < left["least"] <= left["most"] <= 10_000
