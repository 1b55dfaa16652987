"""`relay status` and the dead letters: what an operator looks at first, and what they do next."""

from importlib import metadata

import pytest

from relay.open import shown
from tests.conftest import Stores, write
from tests.databases import name_of
from tests.relay.outages import missing
from tests.system.processes import relay, running_relay


def test_status_of_an_empty_outbox_has_no_warning(stores: Stores) -> None:
    ended = relay(stores, "status", "--json")
    assert ended.code == 0
    assert ended.err == ""
    assert ended.json["warnings"] == []
    assert ended.json["gateway"] == "up"
    assert ended.json["oldest_unsettled_age_seconds"] is None


def test_status_counts_each_state_and_tells_the_age_of_the_oldest(stores: Stores) -> None:
    for _ in range(6):
        stores.create()
    for seq, state in ((1, "delivered"), (2, "superseded"), (3, "dead")):
        write(stores.source, "UPDATE outbox_messages SET state = :s, settled_at = 1 WHERE seq = :n", s=state, n=seq)
    write(stores.source, "UPDATE outbox_messages SET state = 'retrying', available_at = 1 WHERE seq = 4")
    write(stores.source, "UPDATE outbox_messages SET enqueued_at = enqueued_at - 60000 WHERE seq = 5")
    found = relay(stores, "status", "--json").json
    counted = {name: found[name] for name in ("pending", "retrying", "dead", "delivered", "superseded")}
    assert counted == {"pending": 2, "retrying": 1, "dead": 1, "delivered": 1, "superseded": 1}
    assert 60 <= found["oldest_unsettled_age_seconds"] < 120
    assert found["live_relays"] == 0


def test_status_warns_when_messages_wait_and_no_relay_lives(stores: Stores) -> None:
    stores.create()
    ended = relay(stores, "status")
    assert ended.code == 0
    assert ended.only_line == "warning: 1 messages wait and no relay lives; start one with `relay run`"
    assert "pending" in ended.out


def test_status_names_the_relays_that_live_and_not_one_that_was_killed(stores: Stores) -> None:
    with running_relay(stores) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        found = relay(stores, "status", "--json").json
        assert [one["pid"] for one in found["relays"]] == [worker.pid]
        assert found["warnings"] == []
        assert found["relays"][0]["id"] in relay(stores, "status", COLUMNS="300").out
        worker.kill()
    assert relay(stores, "status", "--json").json["relays"] == []


def test_status_with_the_gateway_down_still_prints_everything_and_ends_with_4(stores: Stores) -> None:
    stores.create()
    with missing(stores):
        as_json, as_text = relay(stores, "status", "--json"), relay(stores, "status")
    assert (as_json.code, as_text.code) == (4, 4)
    assert as_json.json["gateway"] == "down"
    assert as_json.json["pending"] == 1
    assert name_of(stores.mirror_url) in as_json.json["gateway_problem"]
    assert "down" in as_text.out
    assert "warning: the gateway is down: " in as_text.err


@pytest.mark.only("sqlite", because="the name of a file is in its URL as it is")
def test_a_warning_names_a_file_as_it_is_called(stores: Stores) -> None:
    ended = relay(stores, "--gateway", f"sqlite:///{stores.folder}/of:b:[red].db", "status")
    assert ended.code == 4
    assert "/of:b:[red].db" in ended.only_line


def test_dead_letters_are_listed_shown_retried_and_delivered(stores: Stores) -> None:
    created = stores.create()
    whole = stores.messages()[0]["payload"]
    write(stores.source, "UPDATE outbox_messages SET payload = '{}'")
    assert relay(stores, "run", "--until-empty").code == 0

    listed = relay(stores, "dead", "list", "--json").json["dead"]
    assert [(one["seq"], one["key"]) for one in listed] == [(1, created.invite.id)]
    assert "invalid invite: id: " in listed[0]["last_error"]
    assert created.invite.id in relay(stores, "dead", "list").out
    assert relay(stores, "dead", "show", "1", "--json").json["state"] == "dead"
    assert "1 messages are dead" in relay(stores, "status").err

    write(stores.source, "UPDATE outbox_messages SET payload = :whole", whole=whole)
    assert relay(stores, "dead", "retry", "--all", "--json").json == {"retried": 1}
    assert relay(stores, "run", "--until-empty").code == 0
    assert stores.states() == ["delivered"]


def test_retrying_a_message_that_is_not_dead_is_1_and_says_so(stores: Stores) -> None:
    stores.create()
    ended = relay(stores, "dead", "retry", "1", "99")
    assert ended.code == 1
    assert ended.only_line == "relay: not dead: 1, 99; see `relay dead list`"
    assert stores.states() == ["pending"]


def test_retrying_all_of_no_dead_letters_is_fine(stores: Stores) -> None:
    assert relay(stores, "dead", "retry", "--all", "--json").json == {"retried": 0}


def test_status_lists_version_and_gateway_of_each_relay(stores: Stores) -> None:
    with running_relay(stores) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        (found,) = relay(stores, "status", "--json").json["relays"]
        as_text = relay(stores, "status", COLUMNS="400").out
    assert found["version"] == metadata.version("invite-relay")
    assert found["gateway"] == shown(stores.mirror_url)
    assert f"version {found['version']}, into {found['gateway']}" in as_text


@pytest.mark.parametrize("ahead", [3_600_000, 2**53 - 1 - 1_900_000_000_000], ids=["an hour", "beyond any date"])
def test_a_message_from_the_future_has_no_negative_age_and_is_named(stores: Stores, ahead: int) -> None:
    stores.create()
    write(stores.source, "UPDATE outbox_messages SET enqueued_at = enqueued_at + :ahead", ahead=ahead)
    ended = relay(stores, "status", "--json")
    assert ended.json["oldest_unsettled_age_seconds"] == 0
    assert any("message 1 is from the future" in warning for warning in ended.json["warnings"])
    assert "message 1 is from the future" in relay(stores, "status").err


@pytest.mark.parametrize(
    ("version", "words"),
    [("0001", "the outbox of an earlier release; stop every relay, then run `relay init`"), ("0009", "schema 0009")],
)
@pytest.mark.parametrize("command", [("status",), ("run", "--until-empty"), ("run",), ("dead", "list"), ("verify",)])
def test_a_command_that_meets_the_schema_of_another_release_says_so_and_ends_with_4(
    stores: Stores, version: str, words: str, command: tuple[str, ...]
) -> None:
    write(stores.source, "UPDATE outbox_schema_version SET version_num = :version", version=version)
    ended = relay(stores, *command)
    assert ended.code == 4
    assert words in ended.only_line
