"""`relay status` and the dead letters: what an operator looks at first, and what they do next."""

from datetime import datetime
from importlib import metadata
from pathlib import Path

import pytest

from relay.status import read_status
from relay.urls import shown
from tests.conftest import Stores, both_stores, write
from tests.databases import name_of
from tests.relay.outages import missing
from tests.relay.rig import gateway_of
from tests.system.processes import relay, relay_at, running_relay


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
    assert ended.code == 1
    assert ended.only_line == "warning: 1 message waits and no relay lives; start one with `relay run`"
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
    ended = relay(stores, "run", "--until-empty")
    assert ended.code == 1
    assert "1 message is dead, see `relay dead list`" in ended.err

    listed = relay(stores, "dead", "list", "--json").json["dead"]
    assert [(one["seq"], one["key"]) for one in listed] == [(1, created.invite.id)]
    assert "invalid invite: id: " in listed[0]["last_error"]
    assert created.invite.id in relay(stores, "dead", "list").out
    assert relay(stores, "dead", "show", "1", "--json").json["state"] == "dead"
    assert "1 message is dead" in relay(stores, "status").err

    write(stores.source, "UPDATE outbox_messages SET payload = :whole", whole=whole)
    assert relay(stores, "dead", "retry", "--all", "--json").json == {"retried": 1}
    assert relay(stores, "run", "--until-empty").code == 0
    assert stores.states() == ["delivered"]


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
    assert ended.code == 1
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


FIELDS_OF_0_2 = {
    "pending",
    "retrying",
    "dead",
    "delivered",
    "superseded",
    "oldest_unsettled_age_seconds",
    "live_relays",
    "relays",
    "gateway",
    "gateway_problem",
    "wrong",
    "from_the_future",
    "warnings",
}


def test_the_document_keeps_every_field_that_it_had(stores: Stores) -> None:
    assert relay(stores, "status", "--json").json.keys() >= FIELDS_OF_0_2


def test_the_reasons_of_retrying_messages_are_counted_with_the_soonest_next_try(stores: Stores) -> None:
    for contact in ("late", "late", "later", "late", "co-1"):
        stores.create(contact_id=contact)
    assert relay(stores, "run", "--until-empty", RELAY_RETRY_FIRST="1h", RELAY_RETRY_LONGEST="1h").code == 1
    due = {row["seq"]: row["available_at"] for row in stores.messages("state = 'retrying'")}

    ended = relay(stores, "status", "--json")
    found = ended.json
    as_text = relay(stores, "status", COLUMNS="500").out

    counted = [(one["messages"], one["seq"], one["next_try_at"]) for one in found["retry_reasons"]]
    assert counted == [(3, 1, min(due[seq] for seq in (1, 2, 4))), (1, 3, due[3])]
    assert found["next_try_at"] == min(due.values())
    for one in (found, *found["retry_reasons"]):
        assert datetime.fromisoformat(one["next_try_at_iso"]).timestamp() == one["next_try_at"] // 1000
    assert "contact 'late' of invite … is not at the gateway" in found["retry_reasons"][0]["reason"]
    assert f"3, such as message 1, next try at {found['retry_reasons'][0]['next_try_at_iso']}: " in as_text


def test_of_many_reasons_the_commonest_are_told(stores: Stores) -> None:
    for number in range(13):
        stores.create(contact_id=f"c-{number}")
    relay(stores, "run", "--until-empty", RELAY_RETRY_FIRST="1h", RELAY_RETRY_LONGEST="1h")
    assert len(relay(stores, "status", "--json").json["retry_reasons"]) == 10
    assert "and 3 more" in relay(stores, "status").out


def test_a_retry_that_is_due_is_said_to_be_and_needs_no_reason(stores: Stores) -> None:
    stores.create()
    write(stores.source, "UPDATE outbox_messages SET state = 'retrying', available_at = 1")
    assert "1, such as message 1, due now: no reason was kept" in relay(stores, "status", COLUMNS="500").out


def test_until_empty_that_leaves_refused_messages_is_1_and_says_when_they_are_tried_again(stores: Stores) -> None:
    stores.create(contact_id="late")
    stores.create()
    ended = relay(stores, "run", "--until-empty", RELAY_RETRY_FIRST="1h", RELAY_RETRY_LONGEST="1h")
    assert ended.code == 1
    assert "1 message was refused for now, see `relay status`; the next try is due at 20" in ended.err
    assert sorted(stores.states()) == ["delivered", "retrying"]


def test_until_empty_that_finds_a_dead_letter_of_before_is_1(stores: Stores) -> None:
    stores.create()
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1")
    assert relay(stores, "run", "--until-empty").code == 1


def test_both_urls_are_shown_files_by_their_whole_path(tmp_path: Path) -> None:
    with both_stores(tmp_path) as stores:
        ended = relay_at(tmp_path, "status", "--json")
        (tmp_path / "s").mkdir(mode=0o700)
        by_socket = relay_at(tmp_path, "--gateway", f"unix://{tmp_path}/s/none.sock", "status", "--json")
        as_text = relay(stores, "status", COLUMNS="500").out
    assert (ended.json["assistant_db"], ended.json["gateway_url"]) == (stores.source_url, stores.mirror_url)
    assert by_socket.json["gateway_url"] == f"unix://{tmp_path}/s/none.sock"
    assert stores.source_url in as_text
    assert stores.mirror_url in as_text


def test_the_library_reads_the_same_status(stores: Stores) -> None:
    stores.create()
    with gateway_of(stores) as gateway:
        found = read_status(stores.source, gateway, shown(stores.mirror_url))
    of_the_command = relay(stores, "status", "--json").json
    assert found.exit_code == 1
    assert (found.pending, found.gateway, found.warnings) == (1, "up", of_the_command["warnings"])
    assert found.as_dict().keys() == of_the_command.keys()
