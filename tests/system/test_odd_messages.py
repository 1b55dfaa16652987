"""Rows of the outbox that no library of ours wrote: the one message is dead with a reason, and nothing else is harmed.

They come from a database of an earlier release, or from a writer that switched the table's own checks off.
"""

import json
import resource
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from assistant_store.invites.invite import Invite, payload_of
from outbox import shard_of
from outbox.message import MAX_DELIVERED_BYTES
from tests.conftest import Stores, rows, write
from tests.system.forging import insert_unchecked, quoted
from tests.system.processes import RELAY, relay

LARGEST = 2**63 - 1
FAR = 2**62


@dataclass(frozen=True, slots=True)
class Forged:
    """What is written into the columns, as SQL; and words of the reason it is dead for, None where it is delivered."""

    columns: Callable[[Stores, Invite], dict[str, str]]
    reason: str | None


def of(**columns: str) -> Callable[[Stores, Invite], dict[str, str]]:
    return lambda _stores, _invite: columns


def payload(invite: Invite, **changes: Any) -> str:
    return quoted(json.dumps(json.loads(payload_of(invite)) | changes, separators=(",", ":")))


def filled(stores: Stores, size: int) -> str:
    """So many NULs where a text can hold them: SQLite's ``length`` of it is 0."""
    return f"CAST(zeroblob({size}) AS TEXT)" if stores.source.dialect.name == "sqlite" else f"repeat('x', {size})"


INVALID = "Field required"
TOO_LARGE = "bytes of payload, more than"
HUGE_PAYLOAD = MAX_DELIVERED_BYTES + 1

FORGED = {
    "negative seq": Forged(of(seq="-5"), INVALID),
    "lowest seq": Forged(of(seq=str(-LARGEST)), INVALID),
    "seq 0": Forged(of(seq="0"), INVALID),
    "attempts": Forged(of(attempts=str(LARGEST)), INVALID),
    "version": Forged(of(version=str(LARGEST)), "is none that a row can have"),
    "version below all": Forged(of(version=str(-LARGEST)), "is none that a row can have"),
    "enqueued far ahead": Forged(of(enqueued_at=str(LARGEST)), INVALID),
    "enqueued long ago": Forged(of(enqueued_at=str(-LARGEST)), INVALID),
    "retrying for ever": Forged(of(state="'retrying'", available_at=str(LARGEST)), INVALID),
    "retrying since ever": Forged(of(state="'retrying'", available_at=str(-LARGEST)), INVALID),
    "empty key": Forged(of(key="''"), INVALID),
    "steering topic": Forged(of(topic=quoted("x\x1b[31m\n")), "unknown topic"),
    "huge payload": Forged(lambda s, _: {"payload": filled(s, HUGE_PAYLOAD)}, TOO_LARGE),
    "deep payload": Forged(of(payload=quoted("[" * 100_000)), "nested too deeply"),
    "digits": Forged(of(payload=quoted('{"maxUses":' + "9" * 100_000 + "}")), "not JSON"),
    "another's payload": Forged(lambda _, i: {"payload": payload(i)}, "another than its key"),
    "another's payload too": Forged(
        lambda _, i: {"payload": quoted('{"id":"k",' + payload_of(i)[1:])}, "another than its key"
    ),
    "words of a crash": Forged(
        of(last_error=quoted("relays in a row stopped while delivering it: " + "9" * 1900)), INVALID
    ),
}
# Where a table's own checks can be switched off, and text holds any bytes.
FORGED_ON_SQLITE = {
    "attempts below 0": Forged(of(attempts="-3"), INVALID),
    "shard above": Forged(of(shard="64"), INVALID),
    "shard far above": Forged(of(shard=str(LARGEST)), INVALID),
    "shard below": Forged(of(shard="-1"), INVALID),
    "origin above all": Forged(of(origin="'zzz'"), INVALID),
    "origin below all": Forged(of(origin="''"), INVALID),
    "origin no text": Forged(of(origin="CAST(x'ff' AS TEXT)"), INVALID),
    "huge origin": Forged(lambda s, _: {"origin": filled(s, 2**22)}, INVALID),
    "retrying without an end": Forged(of(state="'retrying'"), INVALID),
    "pending and settled": Forged(of(settled_at="5"), INVALID),
    "key no text": Forged(of(key="CAST(x'6bff' AS TEXT)"), "no text"),
    "key with a NUL": Forged(of(key="'k' || char(0) || 'x'"), "no text"),
    "key with a NUL first": Forged(of(key="char(0) || 'x'"), "no text"),
    "huge key": Forged(lambda s, _: {"key": filled(s, 2**20)}, "bytes of key"),
    "topic no text": Forged(of(topic="CAST(x'6bff' AS TEXT)"), "unknown topic"),
    "topic with a NUL": Forged(of(topic="'invite.mirror' || char(0)"), "unknown topic"),
    "huge topic": Forged(lambda s, _: {"topic": filled(s, 2**20)}, "bytes of topic"),
    "payload no text": Forged(of(payload="CAST(x'7bff7d' AS TEXT)"), "no text"),
    "payload with a NUL": Forged(of(payload="'{}' || char(0) || 'x'"), "not JSON"),
    "payload of NULs": Forged(lambda s, _: {"payload": filled(s, HUGE_PAYLOAD)}, TOO_LARGE),
    "huge reason": Forged(lambda s, _: {"last_error": filled(s, 2**22)}, "bytes of reason, more than"),
}


def forge(stores: Stores, invite: Invite, forged: Forged) -> None:
    columns = {
        "topic": "'invite.mirror'",
        "key": "'k'",
        "version": "1",
        "shard": "5",
        "payload": "'{}'",
        "enqueued_at": "1",
    } | forged.columns(stores, invite)
    insert_unchecked(stores.source, "outbox_messages", columns)


def settled_rows(stores: Stores) -> dict[str, int]:
    return {
        row["state"]: row["n"]
        for row in rows(stores.source, "SELECT state, count(*) AS n FROM outbox_messages GROUP BY state")
    }


@pytest.mark.parametrize("name", FORGED)
def test_p08_a_forged_row_ends_as_dead_with_a_reason_and_every_other_message_is_delivered(
    stores: Stores, name: str
) -> None:
    assert_it_alone_is_dead(stores, FORGED[name])


@pytest.mark.only("sqlite", because="PostgreSQL takes no such row")
@pytest.mark.parametrize("name", FORGED_ON_SQLITE)
def test_p08_a_row_that_no_check_would_take_ends_as_dead_too(stores: Stores, name: str) -> None:
    assert_it_alone_is_dead(stores, FORGED_ON_SQLITE[name])


def assert_it_alone_is_dead(stores: Stores, forged: Forged) -> None:
    before = [stores.create().invite for _ in range(3)]
    forge(stores, before[0], forged)
    later = [stores.create().invite for _ in range(3)]

    ended = [relay(stores, "run", "--until-empty")]
    listed = relay(stores, "dead", "list", "--json")
    (found,) = listed.json["dead"]
    ended += [relay(stores, "dead", "show", str(found["seq"]), *flag) for flag in ((), ("--json",))]
    others = (["status"], ["verify"], ["prune"], ["replay", "--all"], ["dead", "list"])
    ended += [relay(stores, *command) for command in others]
    retried = relay(stores, "dead", "retry", "--all", "--json")
    ended.append(relay(stores, "run", "--until-empty"))

    # A dead letter is left each time, and needs a person.
    assert [one.code for one in ended] == [1, 0, 0, 1, 0, 0, 0, 0, 1]
    assert not any(mark in one.out + one.err for one in [*ended, listed] for mark in ("Traceback", "\x1b", "\0"))
    assert forged.reason is not None
    assert forged.reason in found["last_error"]
    assert retried.json == {"retried": 1}
    assert settled_rows(stores)["dead"] == 1
    mirrored = {row["id"] for row in rows(stores.mirror, "SELECT id FROM ingress_invites")}
    assert mirrored == {one.id for one in before + later}


@pytest.mark.parametrize("state", ["pending", "retrying"])
@pytest.mark.parametrize("version", ["another's", "impossible"])
def test_p08_a_forged_row_of_an_invites_key_holds_up_none_of_its_messages(
    stores: Stores, version: str, state: str
) -> None:
    victim, other = stores.create(max_uses=3).invite, stores.create().invite
    forged = {
        "key": quoted(victim.id),
        "shard": str(shard_of(victim.id)),
        "version": str(LARGEST if version == "impossible" else victim.updated_at + 10_000),
        "payload": payload(victim, contactId="nobody") if version == "impossible" else payload(other),
        "state": quoted(state),
        "available_at": "1" if state == "retrying" else "NULL",
    }
    forge(stores, other, Forged(of(**forged), None))
    assert relay(stores, "run", "--until-empty").code == 1
    stores.revoke(victim.id)
    assert relay(stores, "run", "--until-empty").code == 1

    mirrored = stores.mirrored(victim.id)
    assert mirrored is not None
    assert mirrored.status == "revoked"
    assert settled_rows(stores) == {"delivered": 3, "dead": 1}


@pytest.mark.only("sqlite", because="PostgreSQL stores no NUL")
def test_p08_a_key_with_a_nul_settles_no_message_of_the_key_that_ends_there(stores: Stores) -> None:
    invite = stores.create().invite
    due = invite.created_at + 60_000
    write(
        stores.source,
        "UPDATE outbox_messages SET key = 'vic', state = 'retrying', version = 5, available_at = :due",
        due=due,
    )
    forge(stores, invite, Forged(of(key="'vic' || char(0) || 'x'", version="9", payload=payload(invite)), None))

    ended = relay(stores, "run", "--until-empty")

    assert ended.code == 1
    assert "1 message is dead" in ended.err
    assert "1 message was refused for now" in ended.err
    assert sorted(stores.states()) == ["dead", "retrying"]


@pytest.mark.only("sqlite", because="a server's memory is its own")
@pytest.mark.parametrize("column", ["payload", "last_error"])
def test_p08_a_row_larger_than_the_relays_memory_ends_as_dead(stores: Stores, column: str) -> None:
    invite = stores.create().invite
    forge(stores, invite, Forged(of(**{column: "CAST(zeroblob(150000000) AS TEXT)"}), None))
    late = stores.create().invite
    urls = {"RELAY_ASSISTANT_DB": stores.source_url, "RELAY_GATEWAY": stores.mirror_url}

    commands = {("run", "--until-empty"): 1, ("dead", "list", "--json"): 0, ("dead", "show", "2"): 0, ("status",): 1}
    for command, code in commands.items():
        ended = subprocess.run(
            [RELAY, *command],
            env=urls,
            capture_output=True,
            check=False,
            timeout=60,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (120_000_000,) * 2),
        )
        assert (command, ended.returncode, b"Traceback" in ended.stderr) == (command, code, False)
        assert len(ended.stdout) < 1_000_000

    assert settled_rows(stores) == {"delivered": 2, "dead": 1}
    assert stores.mirrored(late.id) is not None
