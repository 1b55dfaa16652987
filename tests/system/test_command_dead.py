"""`relay dead`: what it takes, what it gives up for good, and that nothing else is given up with it."""

import re
import shlex

import pytest

from tests.conftest import Stores, rows, write
from tests.system.processes import relay

DIE = "UPDATE outbox_messages SET state = 'dead', settled_at = 1, last_error = 'spoilt' WHERE seq = :seq"


def put_dead(stores: Stores) -> str:
    """The id of an invite whose only message is dead."""
    id_ = stores.create(max_uses=5).invite.id
    write(stores.source, DIE, seq=stores.messages()[-1]["seq"])
    return id_


def delete(stores: Stores, id_: str) -> None:
    write(stores.source, "DELETE FROM assistant_ingress_invites WHERE id = :id", id=id_)


@pytest.mark.parametrize("command", [("show",), ("retry",), ("retry", "1"), ("drop", "--reason", "r")], ids=" ".join)
@pytest.mark.parametrize("seq", ["99", "-99"])
def test_a_message_that_nobody_knows_is_2_and_nothing_is_done(
    stores: Stores, command: tuple[str, ...], seq: str
) -> None:
    put_dead(stores)
    ended = relay(stores, "dead", *command, seq)
    assert (ended.code, ended.out) == (2, "")
    assert ended.only_line.startswith(f"relay: there is no message {seq}; see `relay ")
    assert stores.states() == ["dead"]


@pytest.mark.parametrize("command", [("retry",), ("drop", "--reason", "r")], ids=" ".join)
def test_a_message_that_is_not_dead_is_1_and_left_alone(stores: Stores, command: tuple[str, ...]) -> None:
    stores.create()
    ended = relay(stores, "dead", *command, "1")
    assert ended.code == 1
    assert ended.only_line.startswith("relay: not dead: 1; see `relay ")
    assert stores.states() == ["pending"]


@pytest.mark.parametrize(
    "args",
    [
        ("retry", "--all", "--until", "2h"),
        ("retry", "--all", "--since", "2h"),
        ("retry", "--al"),
        ("drop", "1"),
        ("drop", "1", "--reason", " "),
        ("drop", "--reason", "r"),
        ("drop", "1", "2", "--reason", "r"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_2_and_nothing_is_done(stores: Stores, args: tuple[str, ...]) -> None:
    put_dead(stores)
    ended = relay(stores, "dead", *args)
    assert (ended.code, ended.out) == (2, "")
    assert "integer" not in ended.err
    assert stores.states() == ["dead"]


def test_retrying_all_of_no_dead_letters_is_fine(stores: Stores) -> None:
    assert relay(stores, "dead", "retry", "--all", "--json").json == {"retried": 0}


def test_a_dead_letter_of_a_row_that_is_gone_is_dropped_and_who_and_why_is_kept(stores: Stores) -> None:
    delete(stores, put_dead(stores))
    assert relay(stores, "status").code == 1
    ended = relay(stores, "dead", "drop", "1", "--reason", "a test invite\x1b[2J", "--json", LOGNAME="ada")
    assert (ended.code, ended.err, ended.json) == (0, "", {"dropped": 1, "enqueued": 0})
    kept = relay(stores, "dead", "show", "1", "--json").json
    assert kept["state"] == "superseded"
    assert kept["last_error"] == "dropped by ada: a test invite\\x1b[2J; it was dead because: spoilt"
    assert relay(stores, "status", "--json").json["warnings"] == []
    assert relay(stores, "run", "--until-empty").code == 0


def test_a_dead_letter_of_an_unknown_topic_is_dropped_alone(stores: Stores) -> None:
    put_dead(stores)
    write(stores.source, "UPDATE outbox_messages SET topic = 'invite.future'")
    put_dead(stores)
    assert relay(stores, "dead", "drop", "1", "--reason", "from a trial").code == 0
    assert stores.states() == ["superseded", "dead"]


def test_prune_leaves_what_was_dropped(stores: Stores) -> None:
    for _ in range(2):
        delete(stores, put_dead(stores))
    assert relay(stores, "dead", "drop", "1", "--reason", "r").code == 0
    write(stores.source, "UPDATE outbox_messages SET settled_at = 1")
    write(stores.source, "UPDATE outbox_messages SET state = 'superseded' WHERE seq = 2")
    assert relay(stores, "prune", "--retention", "1d", "--json").json == {"pruned": 1}
    assert [row["seq"] for row in stores.messages()] == [1]


def test_an_older_state_that_waits_behind_a_dropped_one_is_not_delivered(stores: Stores) -> None:
    """Where the revocation was given up, the state before it must not open the invite."""
    id_ = stores.create().invite.id
    stores.revoke(id_)
    write(stores.source, DIE, seq=2)
    delete(stores, id_)
    assert relay(stores, "dead", "drop", "2", "--reason", "r", "--json").json == {"dropped": 2, "enqueued": 0}
    assert relay(stores, "run", "--until-empty").code == 0
    assert stores.mirrored(id_) is None


def test_in_place_of_what_waited_behind_it_the_row_as_it_is_is_enqueued(stores: Stores) -> None:
    id_ = stores.create().invite.id
    stores.revoke(id_)
    write(stores.source, DIE, seq=2)
    assert relay(stores, "dead", "drop", "2", "--reason", "r", "--json").json == {"dropped": 2, "enqueued": 1}
    assert relay(stores, "run", "--until-empty").code == 0
    assert (mirrored := stores.mirrored(id_)) is not None
    assert mirrored.status == "revoked"


def test_a_newer_message_and_those_of_other_keys_stay(stores: Stores) -> None:
    id_ = put_dead(stores)
    stores.use(id_)
    put_dead(stores)
    assert relay(stores, "dead", "drop", "1", "--reason", "r", "--json").json == {"dropped": 1, "enqueued": 0}
    assert stores.states() == ["superseded", "pending", "dead"]


def test_where_the_row_is_still_there_a_drop_says_what_carries_it_now(stores: Stores) -> None:
    id_ = put_dead(stores)
    ended = relay(stores, "dead", "drop", "1", "--reason", "r")
    assert ended.code == 0
    assert f"invite {id_} is still there" in ended.err
    lines = re.findall(r"`(relay [^`]+)`", ended.err)
    assert [relay(stores, *shlex.split(line)[5:]).code for line in lines] == [1, 0]
    assert stores.mirrored(id_) is not None


def test_a_replay_of_the_dead_sends_what_it_cannot_help_to_a_drop(stores: Stores) -> None:
    delete(stores, put_dead(stores))
    kept = put_dead(stores)
    ended = relay(stores, "replay", "--dead", "--json")
    assert (ended.code, ended.json["repaired"]) == (1, 1)
    assert "1 dead letter is of rows that are gone or of unknown topics, so no replay helps" in ended.err
    show, drop = (shlex.split(line)[5:] for line in re.findall(r"`(relay [^`]+)`", ended.err))
    assert [relay(stores, *line).code for line in (show, drop)] == [0, 0]
    assert relay(stores, "replay", "--dead").code == 0
    assert rows(stores.source, "SELECT seq FROM outbox_messages WHERE state = 'dead'") == []
    assert stores.mirrored(kept) is not None


def test_an_instant_is_shown_as_a_person_reads_it_beside_the_number(stores: Stores) -> None:
    put_dead(stores)
    write(stores.source, "UPDATE outbox_messages SET enqueued_at = 1767225600000")
    shown, as_json = relay(stores, "dead", "show", "1"), relay(stores, "dead", "show", "1", "--json").json
    assert (as_json["enqueued_at"], as_json["enqueued_at_iso"]) == (1767225600000, "2026-01-01T00:00:00+00:00")
    assert "2026-01-01T00:00:00+00:00" in shown.out
    assert as_json["settled_at_iso"] == "1970-01-01T00:00:00+00:00"


def test_dead_messages_and_their_words_agree_in_number(stores: Stores) -> None:
    put_dead(stores)
    assert "1 message is dead;" in relay(stores, "status").err
    put_dead(stores)
    assert "2 messages are dead;" in relay(stores, "status").err
