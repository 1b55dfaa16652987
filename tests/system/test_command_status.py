"""`relay status` and the dead letters: what an operator looks at first, and what they do next."""

import pytest

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
