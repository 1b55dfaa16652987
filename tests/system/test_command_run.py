"""`relay run` says what it drains into what, and never calls an outbox empty whose gateway it could not ask."""

from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from sqlalchemy import make_url

from tests.conftest import Stores, both_stores, write
from tests.relay.outages import OF_FILES, OF_SERVERS, Trouble, missing, not_initialised, write_locked
from tests.relay.test_closed_topics import make_newer
from tests.socket.clients import gateway, path, url
from tests.system.processes import Ended, relay, running_relay

GIVEN = {"RELAY_GATEWAY_TIMEOUT": "0.2", "RELAY_RETRY_LONGEST": "2h"}
WORD = "correct-horse"


def until_empty(stores: Stores, *, at: str | None = None) -> Ended:
    return relay(stores, "--gateway", at or stores.mirror_url, "run", "--until-empty", **GIVEN)


def assert_unreachable(ended: Ended, words: str = "the gateway cannot be reached: ") -> None:
    assert ended.code == 4, ended.err
    assert words in ended.err.splitlines()[-1]


@pytest.mark.only("sqlite", because="the file of another program")
def test_an_empty_outbox_whose_gateway_has_no_tables_is_4_and_0_once_it_has(stores: Stores) -> None:
    with not_initialised(stores):
        assert_unreachable(until_empty(stores), "has no mirror yet; run `relay init`")
    assert until_empty(stores).code == 0


@pytest.mark.only("postgresql", because="one table can be away for a while")
def test_an_empty_outbox_whose_gateway_lacks_a_table_is_4_and_0_once_it_is_back(stores: Stores) -> None:
    with not_initialised(stores):
        assert_unreachable(until_empty(stores), "table ingress_invites is missing. Restore it from a copy")
    assert until_empty(stores).code == 0


@pytest.mark.parametrize("trouble", [missing, write_locked])
def test_an_empty_outbox_whose_gateway_is_gone_is_4_and_0_once_it_is_back(stores: Stores, trouble: Trouble) -> None:
    with trouble(stores):
        assert_unreachable(until_empty(stores))
    assert until_empty(stores).code == 0


@pytest.mark.only("sqlite", because="what stands in the place of a file")
@pytest.mark.parametrize("trouble", OF_FILES)
def test_an_empty_outbox_whose_gateway_is_no_database_is_4(stores: Stores, trouble: Trouble) -> None:
    with trouble(stores):
        assert_unreachable(until_empty(stores))


@pytest.mark.only("postgresql", because="a server's troubles")
@pytest.mark.parametrize("trouble", OF_SERVERS)
def test_an_empty_outbox_whose_server_refuses_is_4(stores: Stores, trouble: Trouble) -> None:
    with trouble(stores):
        assert_unreachable(until_empty(stores))


@pytest.mark.only("sqlite", because="what is tested is the socket")
def test_an_empty_outbox_whose_socket_nobody_serves_is_4_and_0_once_somebody_does(stores: Stores) -> None:
    path(stores).parent.mkdir(mode=0o700)
    assert_unreachable(until_empty(stores, at=url(stores)))
    path(stores).parent.rmdir()
    with gateway(stores):
        assert until_empty(stores, at=url(stores)).code == 0


def test_an_outbox_that_was_drained_is_not_called_empty_while_its_gateway_is_gone(stores: Stores) -> None:
    stores.create()
    assert until_empty(stores).code == 0
    with missing(stores):
        assert_unreachable(until_empty(stores))


def dead(stores: Stores) -> None:
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1")


def refused(stores: Stores) -> None:
    write(stores.source, "UPDATE outbox_messages SET state = 'retrying', available_at = enqueued_at + 3600000")


def newer(stores: Stores) -> None:
    make_newer(stores, [1], version=9)


@pytest.mark.parametrize("left", [dead, refused, newer])
def test_a_gateway_that_is_gone_beats_what_is_left(stores: Stores, left: Callable[[Stores], None]) -> None:
    stores.create()
    left(stores)
    with missing(stores):
        assert_unreachable(until_empty(stores))
    assert until_empty(stores).code == 1


def with_password(at: str) -> str:
    parsed = make_url(at)
    if parsed.get_backend_name() == "sqlite":
        return at
    return parsed.set(password=WORD).render_as_string(hide_password=False)


def test_the_log_names_both_urls_without_passwords_and_the_version(stores: Stores) -> None:
    urls = {
        "RELAY_ASSISTANT_DB": with_password(stores.source_url),
        "RELAY_GATEWAY": with_password(stores.mirror_url),
    }
    with running_relay(stores, **urls) as worker:
        (started,) = worker.events("started")
        assert worker.terminate() == 0
    assert started["version"] == metadata.version("invite-relay")
    for name, at in (("assistant_db", stores.source_url), ("gateway", stores.mirror_url)):
        assert make_url(started[name]).database == make_url(at).database
    assert WORD not in str(worker.seen)


@pytest.mark.only("sqlite", because="what is tested is a path")
def test_the_log_names_a_file_by_its_whole_path_and_a_socket_as_it_is(tmp_path: Path) -> None:
    with both_stores(tmp_path) as stores, gateway(stores):
        relative = {"RELAY_ASSISTANT_DB": "sqlite:///assistant.db"}
        with running_relay(stores, "--gateway", url(stores), "run", **relative) as worker:
            (started,) = worker.events("started")
    assert (started["assistant_db"], started["gateway"]) == (stores.source_url, url(stores))
