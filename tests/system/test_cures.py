"""Every step that `relay verify` and `relay replay` name is one: typed as it is printed, it makes the stores equal."""

import re
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import CONTACT, Stores, rows, write
from tests.relay.rig import create_many
from tests.socket.clients import gateway, url
from tests.system.processes import RELAY, Ended, relay

Drift = Callable[[Stores, str], None]


def mirrored(stores: Stores, **given: object) -> str:
    """An invite that both stores have, and of which no message is left."""
    invite = stores.create(max_uses=3, **given).invite.id
    assert relay(stores, "run", "--until-empty").code == 0
    write(stores.source, "DELETE FROM outbox_messages")
    return invite


def here(assignment: str) -> Drift:
    return lambda stores, id_: write(
        stores.source, f"UPDATE assistant_ingress_invites SET {assignment} WHERE id = :id", id=id_
    )


def there(assignment: str) -> Drift:
    return lambda stores, id_: write(stores.mirror, f"UPDATE ingress_invites SET {assignment} WHERE id = :id", id=id_)


def gone_there(stores: Stores, id_: str) -> None:
    write(stores.mirror, "DELETE FROM ingress_invites WHERE id = :id", id=id_)


def gone_here(stores: Stores, id_: str) -> None:
    write(stores.source, "DELETE FROM assistant_ingress_invites WHERE id = :id", id=id_)


REPLAY = {
    "missing": gone_there,
    "status_behind": here("status = 'revoked', updated_at = updated_at + 1"),
    "uses behind": here("use_count = 1, redeemed_at = 5, updated_at = updated_at + 1"),
    "stale": here("note = 'ours', updated_at = updated_at + 1"),
    "status_behind at a tie": here("status = 'expired'"),
}
TOUCH = {
    "another expiry at a tie": there("expires_at = expires_at + 864000000"),
    "another note at a tie": there("note = 'theirs'"),
    "newer": there("note = 'theirs', updated_at = updated_at + 1"),
    "newer by years": there("updated_at = updated_at + 99999999999"),
}


def typed(ended: Ended) -> list[str]:
    """The commands named on standard error."""
    return re.findall(r"`(relay [^`]+)`", ended.err)


def run_in_a_shell(stores: Stores, line: str) -> None:
    """As it is printed, where the environment names no store."""
    done = subprocess.run(
        ["bash", "-c", line],
        env={"PATH": f"{RELAY.parent}:/usr/bin:/bin", "HOME": str(stores.folder)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", REPLAY)
def test_what_a_replay_cures_is_sent_to_a_replay(stores: Stores, name: str) -> None:
    id_ = mirrored(stores)
    REPLAY[name](stores, id_)
    (line,) = typed(relay(stores, "verify"))
    assert line.endswith(f" replay --id {id_}")
    run_in_a_shell(stores, line)
    assert relay(stores, "verify", "--strict").code == 0


@pytest.mark.parametrize("found", [("verify",), ("replay", "--all")], ids=" ".join)
@pytest.mark.parametrize("name", TOUCH)
def test_where_the_gateway_wins_a_plain_replay_is_1_and_touching_cures(
    stores: Stores, name: str, found: tuple[str, ...]
) -> None:
    id_, other = mirrored(stores, note="ours"), mirrored(stores)
    TOUCH[name](stores, id_)
    ended = relay(stores, *found)
    assert ended.code == 1
    assert "a plain replay changes nothing" in ended.err
    (line,) = typed(ended)
    assert line.endswith(f" replay --id {id_} --touch")
    run_in_a_shell(stores, line)
    assert relay(stores, "verify", "--strict").code == 0
    (untouched,) = rows(
        stores.source, f"SELECT created_at - updated_at AS d FROM assistant_ingress_invites WHERE id = '{other}'"
    )
    assert untouched["d"] == 0


def test_a_replay_says_how_many_are_equal_now_and_how_the_others_differ(stores: Stores) -> None:
    ids = [mirrored(stores) for _ in range(4)]
    TOUCH["another note at a tie"](stores, ids[0])
    there("status = 'revoked'")(stores, ids[1])
    gone_there(stores, ids[2])
    ended = relay(stores, "replay", "--all", "--json")
    assert ended.code == 1
    assert (ended.json["repaired"], ended.json["unrepaired"]) == (2, 2)
    assert ended.json["still_different"] == {"ahead": 1, "fields_differ": 1}
    for step in ended.json["next_steps"]:
        assert step in ended.err


@pytest.mark.parametrize("change", ["status = 'revoked'", "use_count = 1, redeemed_at = 5", "status = 'expired'"])
def test_a_gateway_that_is_ahead_is_sent_to_no_replay(stores: Stores, change: str) -> None:
    id_ = mirrored(stores)
    there(f"{change}, updated_at = updated_at + 1")(stores, id_)
    for found in (("verify",), ("replay", "--all"), ("replay", "--id", id_, "--touch")):
        ended = relay(stores, *found)
        assert ended.code == 1
        assert "no replay undoes that" in ended.err
        assert typed(ended) == []


def test_what_must_be_closed_at_the_gateway_is_replayed_first_though_that_makes_nothing_equal(stores: Stores) -> None:
    id_ = mirrored(stores)
    here("status = 'revoked', updated_at = updated_at + 1")(stores, id_)
    there("use_count = 2, redeemed_at = 5")(stores, id_)
    (line,) = typed(relay(stores, "verify"))
    assert line.endswith(f" replay --id {id_}")
    ended = relay(stores, "replay", "--id", id_)
    assert (ended.code, typed(ended)) == (1, [])
    assert (mirrored_row := stores.mirrored(id_)) is not None
    assert mirrored_row.status == "revoked"


def test_other_contents_under_one_id_are_sent_to_no_replay(stores: Stores) -> None:
    id_ = mirrored(stores)
    there("token_hash = 'other'")(stores, id_)
    ended = relay(stores, "verify")
    assert ended.code == 1
    assert "no replay helps" in ended.only_line
    assert [line.split()[-3:] for line in typed(ended)] == [["verify", "--id", id_]]


def test_an_unknown_contact_is_sent_to_the_gateway_first(stores: Stores) -> None:
    id_ = mirrored(stores)
    write(stores.mirror, "DELETE FROM contacts")
    for found in (("verify",), ("replay", "--all")):
        ended = relay(stores, *found)
        assert ended.code == 1
        assert "until it does no replay helps; add the contact at the gateway" in ended.err
    stores.add_contact(CONTACT)
    run_in_a_shell(stores, typed(ended)[-1])
    assert relay(stores, "verify", "--strict").code == 0
    assert stores.mirrored(id_) is not None


def test_an_extra_invite_is_revoked_at_the_gateway_by_the_line_that_verify_prints(stores: Stores) -> None:
    extra, kept = mirrored(stores), mirrored(stores)
    gone_here(stores, extra)
    ended = relay(stores, "verify")
    assert ended.code == 1
    (line,) = typed(ended)
    assert "no replay helps" in ended.only_line
    run_in_a_shell(stores, line)
    statuses = {row["id"]: row["status"] for row in rows(stores.mirror, "SELECT id, status FROM ingress_invites")}
    assert statuses == {extra: "revoked", kept: "active"}
    after, as_text = relay(stores, "verify", "--json"), relay(stores, "verify")
    assert (after.code, after.json["by_kind"]["extra"], after.json["next_steps"]) == (0, 1, [])
    assert f"extra            {extra}  (closed there)" in as_text.out
    assert relay(stores, "verify", "--strict").code == 1


@pytest.mark.parametrize("id_", ["-", "--all", "it's", "a b", "$HOME", "é"])
def test_a_line_that_is_printed_can_be_typed_whatever_the_id(stores: Stores, id_: str) -> None:
    invite = mirrored(stores)
    write(stores.source, "UPDATE assistant_ingress_invites SET id = :new WHERE id = :id", new=id_, id=invite)
    gone_there(stores, invite)
    (line,) = typed(relay(stores, "verify"))
    run_in_a_shell(stores, line)
    assert relay(stores, "verify", "--strict").code == 0


def test_of_many_rows_a_line_names_the_first_and_says_how_to_find_the_rest(stores: Stores) -> None:
    create_many(stores, 25)
    mirrored(stores)
    write(stores.mirror, "UPDATE ingress_invites SET note = 'theirs'")
    for left in (20, 6):
        line, *more = typed(relay(stores, "verify"))
        assert (line.count("--id"), len(more)) == (left, int(left == 20))
        run_in_a_shell(stores, line)
    assert relay(stores, "verify", "--strict").code == 0


def test_through_a_socket_nothing_is_compared_and_nothing_is_called_repaired(stores: Stores) -> None:
    id_ = mirrored(stores)
    there("note = 'theirs'")(stores, id_)
    with gateway(stores):
        plain = relay(stores, "--gateway", url(stores), "replay", "--all", "--json")
        assert relay(stores, "verify").code == 1
        touched = relay(stores, "--gateway", url(stores), "replay", "--all", "--touch", "--json")
        closing = relay(stores, "--gateway", url(stores), "verify", "--close-extra")
    for ended in (plain, touched):
        assert ended.code == 0
        assert (ended.json["delivered"], ended.json["repaired"], ended.json["still_different"]) == (1, None, None)
        assert "nothing was compared, for a socket shows no rows" in ended.err
    assert (closing.code, "shows none; name the gateway's database" in closing.only_line) == (4, True)
    assert relay(stores, "verify", "--strict").code == 0
