"""Rows that no library of ours wrote: every command names them, goes on with the rest, and ends."""

import json
from typing import Any

import pytest

from outbox.pages import LARGEST_VALUE
from tests.conftest import Stores, rows, write
from tests.system.forging import insert_unchecked, quoted
from tests.system.processes import Ended, relay

ANY_TYPE = pytest.mark.only("sqlite", because="PostgreSQL's columns hold what they are declared to hold, and no NUL")

# What somebody may write into one row of the assistant's table, and the column that is then named.
ODD = {
    "a blob for a text": ("note = x'ff00'", "note"),
    "a blob for a number": ("use_count = x'01'", "use_count"),
    "text for an instant": ("updated_at = 'abc'", "updated_at"),
    "text for a number": ("max_uses = 'abc'", "max_uses"),
    "infinity": ("use_count = 9e999", "use_count"),
    "minus infinity": ("updated_at = -9e999", "updated_at"),
    "a fraction": ("expires_at = 1.5", "expires_at"),
    "a huge text": (f"note = CAST(zeroblob({LARGEST_VALUE + 1}) AS TEXT)", "note"),
    "a huge blob for a number": (f"use_count = zeroblob({LARGEST_VALUE + 1})", "use_count"),
    "a NUL in the id": ("id = id || char(0) || 'x'", "id"),
    "a NUL first in the id": ("id = char(0) || id", "id"),
    "an id that is a blob": ("id = x'ff'", "id"),
    "an id that is no UTF-8": ("id = CAST(x'6bff' AS TEXT)", "id"),
    "a huge id": (f"id = CAST(zeroblob({LARGEST_VALUE + 1}) AS TEXT)", "id"),
}


def odd_among_good(stores: Stores, change: str) -> tuple[list[str], str]:
    """Mirrored invites, of which one row was changed by hand; the ids of the good ones, and that one's before."""
    ids = [stores.create(max_uses=3).invite.id for _ in range(5)]
    assert relay(stores, "run", "--until-empty").code == 0
    write(stores.source, f"UPDATE assistant_ingress_invites SET {change} WHERE id = :id", id=ids[2])
    return ids[:2] + ids[3:], ids[2]


def strict_json(ended: Ended) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not a JSON value")

    return json.loads(ended.out, parse_constant=refuse)


@ANY_TYPE
@pytest.mark.parametrize("name", ODD)
def test_verify_names_an_odd_row_of_either_side_and_goes_on(stores: Stores, name: str) -> None:
    change, column = ODD[name]
    good, odd = odd_among_good(stores, change)
    write(stores.mirror, "UPDATE ingress_invites SET note = 'x' WHERE id = :id", id=good[-1])

    as_text, as_json = relay(stores, "verify"), relay(stores, "verify", "--json")
    write(stores.mirror, f"UPDATE ingress_invites SET {change} WHERE id = :id", id=odd)
    write(stores.source, "UPDATE assistant_ingress_invites SET note = 'x' WHERE id = :id", id=good[-1])
    on_both_sides = relay(stores, "verify", "--json")

    assert (as_text.code, as_json.code) == (1, 1)
    found = strict_json(as_json)
    assert (found["assistant_rows"], found["gateway_rows"]) == (5, 5)
    fields = {field for one in found["differences"] if one["id"] != good[-1] for field in one["fields"]}
    assert column in fields
    assert [one["kind"] for one in found["differences"] if one["id"] == good[-1]] == ["fields_differ"]
    assert "Traceback" not in as_text.err + as_json.err
    # Who has not read a value cannot know that it is the same.
    assert on_both_sides.code == ("huge" in name)


@ANY_TYPE
@pytest.mark.parametrize("name", ODD)
def test_a_replay_names_an_odd_row_repairs_the_rest_and_ends_with_1(stores: Stores, name: str) -> None:
    change, column = ODD[name]
    good, _ = odd_among_good(stores, change)
    write(stores.mirror, "DELETE FROM ingress_invites")

    as_json = relay(stores, "replay", "--all", "--json")
    without_waiting = relay(stores, "replay", "--all", "--no-wait")

    assert (as_json.code, without_waiting.code) == (1, 1)
    counts = {name: as_json.json[name] for name in ("selected", "enqueued", "repaired", "unrepaired")}
    assert counts == {"selected": 5, "enqueued": 4, "repaired": 4, "unrepaired": 1}
    assert {row["id"] for row in rows(stores.mirror, "SELECT id FROM ingress_invites")} == set(good)
    warning, error = (line for line in as_json.err.splitlines() if line.startswith(("warning: ", "relay: ")))
    assert f"has a value of the wrong kind in {column}" in warning
    assert error == "relay: 1 row cannot be enqueued; correct by hand"


@ANY_TYPE
def test_a_text_that_is_no_utf8_is_mirrored_legibly_and_called_different(stores: Stores) -> None:
    _, odd = odd_among_good(stores, "note = CAST(x'636166e9' AS TEXT), updated_at = updated_at + 1")

    replayed, verified = relay(stores, "replay", "--all"), relay(stores, "verify", "--json")

    mirrored = stores.mirrored(odd)
    assert (replayed.code, "no replay helps" in replayed.err) == (1, True)
    assert mirrored is not None
    assert mirrored.note == "caf\ufffd"
    assert [(one["id"], one["fields"]) for one in verified.json["differences"]] == [(odd, ["note"])]


@ANY_TYPE
def test_thousands_of_odd_ids_at_the_gateway_are_each_named_once(stores: Stores) -> None:
    good = stores.create().invite.id
    assert relay(stores, "run", "--until-empty").code == 0
    columns = "source_channel, expires_at, contact_id, created_at, updated_at"
    write(
        stores.mirror,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500)"
        f" INSERT INTO ingress_invites (id, {columns})"
        " SELECT CASE i % 3 WHEN 0 THEN CAST(CAST(x'ff' AS TEXT) || i AS BLOB) WHEN 1 THEN CAST(x'6bff' AS TEXT) || i"
        " ELSE 'a' || char(0) || i END, 't', 1, 'co-1', 1, 1 FROM n",
    )

    verified = relay(stores, "verify", "--json")

    ids = [one["id"] for one in verified.json["differences"]]
    assert verified.code == 1
    assert (len(ids), len(set(ids))) == (2500, 2500)
    assert verified.json["by_kind"]["extra"] == 2500
    assert verified.json["gateway_rows"] == 2501
    assert good not in ids


@ANY_TYPE
@pytest.mark.parametrize("value", ["'abc'", "9e999", "x'ff'", "-1"])
def test_a_row_whose_instant_is_none_is_never_too_old_to_be_looked_at(stores: Stores, value: str) -> None:
    _, odd = odd_among_good(stores, "note = 'x'")
    write(stores.mirror, f"UPDATE ingress_invites SET updated_at = {value} WHERE id = :id", id=odd)

    assert relay(stores, "verify", "--since", "1h", "--json").json["differences"][0]["id"] == odd


@pytest.mark.parametrize("id_", ["\udcff", "a\x1b[31mb"])
@pytest.mark.parametrize("command", ["verify", "replay"])
def test_an_id_that_no_store_can_hold_is_unknown(stores: Stores, command: str, id_: str) -> None:
    ended = relay(stores, command, "--id", id_)

    assert ended.code == 2
    assert "has an invite" in ended.only_line or "has no invite" in ended.only_line
    assert "\x1b" not in ended.only_line


def test_what_a_side_says_of_itself_steers_no_terminal(stores: Stores) -> None:
    steering = "x\x1b[31m\n[red]fake, since 2020\x07"
    seen_at = str(stores.create().invite.created_at + 10_000)
    columns = dict.fromkeys(("id", "host", "host_name", "version", "gateway"), quoted(steering))
    insert_unchecked(
        stores.source,
        "outbox_relays",
        columns | {"destination": "'gateway'", "pid": str(2**40), "started_at": str(2**60), "seen_at": seen_at},
    )
    write(stores.source, "UPDATE outbox_messages SET key = :key, last_error = :key", key=steering)
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1")

    ended = [
        relay(stores, *command, COLUMNS="1000") for command in (["status"], ["dead", "list"], ["dead", "show", "1"])
    ]

    assert [one.code for one in ended] == [1, 0, 0], "a dead letter needs a person"
    assert not any(set("\x1b\x07") & set(one.out + one.err) for one in ended)
    assert r"x\x1b[31m\n[red]fake, since 2020\x07, since 1152921504606846976, which is no date" in ended[0].out
    assert ended[1].out.count("\n") == 1
