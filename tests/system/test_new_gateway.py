"""A gateway that takes the place of another lacks what that was given, until a whole replay is settled."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.conftest import Stores, rows, write
from tests.relay.rig import create_many
from tests.socket import scripted
from tests.socket.clients import gateway, path, url
from tests.system.processes import Ended, relay, running_relay
from tests.system.test_which_gateway import another_pair

CURE = "relay replay --all"
LATE = "1h"


def at(stores: Stores, into: str, *args: str) -> Ended:
    given = {"RELAY_LOG_FORMAT": "json", "RELAY_RETRY_FIRST": LATE, "RELAY_RETRY_LONGEST": LATE}
    return relay(stores, "--gateway", into, *args, **given)


def drained(stores: Stores, into: str, *args: str) -> list[str]:
    """The next steps that the log names."""
    ended = at(stores, into, "run", "--until-empty", *args)
    assert ended.code == 0, ended.err
    lines = [json.loads(line) for line in ended.err.splitlines()]
    return [line["next_step"] for line in lines if line["event"] == "new_gateway"]


def assert_lacks(stores: Stores, into: str) -> None:
    ended = at(stores, into, "status", "--json")
    assert ended.code == 1
    assert any("the gateway lacks" in one and CURE in one for one in ended.json["warnings"]), ended.json["warnings"]


def assert_clean(stores: Stores, into: str) -> None:
    ended = at(stores, into, "status", "--json")
    assert (ended.code, ended.json["warnings"]) == (0, [])


@contextmanager
def replaced(stores: Stores, backend: str, count: int = 3) -> Iterator[Stores]:
    """Another pair, whose gateway has taken the place of the one that ``count`` invites were delivered to."""
    create_many(stores, count)
    drained(stores, stores.mirror_url)
    with another_pair(stores, backend) as other:
        assert drained(stores, other.mirror_url, "--new-gateway") == [CURE]
        yield other


def test_a_new_gateway_is_1_until_a_replay_of_everything_has_settled(stores: Stores, backend: str) -> None:
    with replaced(stores, backend) as other:
        assert_lacks(stores, other.mirror_url)
        assert drained(stores, other.mirror_url) == []
        assert_lacks(stores, other.mirror_url)
        assert at(stores, other.mirror_url, "replay", "--all").code == 0
        assert_clean(stores, other.mirror_url)
        assert at(stores, other.mirror_url, "verify").code == 0


PARTS = {
    "since": ("--since", "7d"),
    "id": ("--id", "one"),
    "limit": ("--all", "--limit", "2"),
    "dry run": ("--all", "--dry-run"),
    "no wait": ("--all", "--no-wait"),
}


@pytest.mark.parametrize("part", PARTS)
def test_no_lesser_replay_will_do(stores: Stores, backend: str, part: str) -> None:
    with replaced(stores, backend) as other:
        first = str(rows(stores.source, "SELECT min(id) AS id FROM assistant_ingress_invites")[0]["id"])
        words = [first if one == "one" else one for one in PARTS[part]]
        assert at(stores, other.mirror_url, "replay", *words).code == 0
        drained(stores, other.mirror_url)
        assert_lacks(stores, other.mirror_url)


def test_a_replay_of_which_a_row_is_refused_will_not_do(stores: Stores, backend: str) -> None:
    with replaced(stores, backend) as other:
        write(other.mirror, "DELETE FROM contacts")
        assert at(stores, other.mirror_url, "replay", "--all").code == 1
        assert_lacks(stores, other.mirror_url)


def test_a_relay_that_runs_may_deliver_the_replay(stores: Stores, backend: str) -> None:
    with replaced(stores, backend) as other:
        with running_relay(stores, "--gateway", other.mirror_url, "run"):
            assert at(stores, other.mirror_url, "replay", "--all").code == 0
        assert_clean(stores, other.mirror_url)


def test_where_there_are_no_rows_a_replay_of_everything_is_soon_done(stores: Stores, backend: str) -> None:
    with replaced(stores, backend, count=0) as other:
        assert_lacks(stores, other.mirror_url)
        assert at(stores, other.mirror_url, "replay", "--all").code == 0
        assert_clean(stores, other.mirror_url)


def test_a_relay_started_again_with_the_option_makes_nothing_new(stores: Stores, backend: str) -> None:
    with replaced(stores, backend) as other:
        assert drained(stores, other.mirror_url, "--new-gateway") == [CURE], "it still wants a replay"
        assert_lacks(stores, other.mirror_url)
        assert at(stores, other.mirror_url, "replay", "--all").code == 0
        assert drained(stores, other.mirror_url, "--new-gateway") == []
        assert_clean(stores, other.mirror_url)


def test_back_to_the_one_before_is_a_new_one_again(stores: Stores, backend: str) -> None:
    with replaced(stores, backend) as other:
        assert at(stores, other.mirror_url, "replay", "--all").code == 0
        assert drained(stores, stores.mirror_url, "--new-gateway") == [CURE]
        assert_lacks(stores, stores.mirror_url)


def test_an_outbox_that_does_not_say_what_it_was_drained_into_may_have_been_drained(
    stores: Stores, backend: str
) -> None:
    create_many(stores, 2)
    drained(stores, stores.mirror_url)
    write(stores.source, "DELETE FROM outbox_routes")
    with another_pair(stores, backend) as other:
        assert drained(stores, other.mirror_url, "--new-gateway") == [CURE]
        assert_lacks(stores, other.mirror_url)


def test_the_option_does_not_hide_that_a_gateway_was_restored(stores: Stores) -> None:
    create_many(stores, 2)
    drained(stores, stores.mirror_url)
    write(stores.source, "UPDATE outbox_routes SET batches_seen = batches_seen + 5")
    drained(stores, stores.mirror_url, "--new-gateway")
    ended = at(stores, stores.mirror_url, "status")
    assert (ended.code, "restored from an old copy" in ended.err, CURE in ended.err) == (1, True, True)


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_a_new_gateway_behind_a_socket_is_1_until_then(stores: Stores, backend: str) -> None:
    create_many(stores, 2)
    drained(stores, stores.mirror_url)
    with another_pair(stores, backend) as other, gateway(other):
        assert drained(stores, url(other), "--new-gateway") == [CURE]
        assert_lacks(stores, url(other))
        assert at(stores, url(other), "replay", "--all").code == 0
        assert_clean(stores, url(other))


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_so_is_one_that_says_nothing_of_itself_and_is_known_by_its_url(stores: Stores) -> None:
    create_many(stores, 2)
    drained(stores, stores.mirror_url)
    path(stores).parent.mkdir(mode=0o700)
    with scripted.scripted(path(stores), scripted.result):
        assert drained(stores, url(stores), "--new-gateway") == [CURE]
        assert_lacks(stores, url(stores))
        assert at(stores, url(stores), "replay", "--all").code == 0
        assert_clean(stores, url(stores))
