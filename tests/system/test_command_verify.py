"""`relay verify`: clean, drifted or unreadable, each with its exit code; and no false alarm while rows change."""

import threading
from collections.abc import Callable

import pytest

from relay.topics import INVITES
from relay.urls import shown
from tests.conftest import Stores, write
from tests.relay.outages import Trouble, missing, not_a_database, not_initialised, without_rights
from tests.relay.rig import drain_all, draining
from tests.system.processes import relay, running_relay


def test_two_equal_stores_are_0(stores: Stores) -> None:
    stores.create()
    with draining(stores) as drain:
        drain_all(drain)
    ended = relay(stores, "verify", "--json")
    assert ended.code == 0
    assert ended.json["differences"] == []
    assert (ended.json["assistant_rows"], ended.json["gateway_rows"]) == (1, 1)


def test_a_difference_is_1_and_named_with_its_kind_and_fields(stores: Stores) -> None:
    invite = stores.create(note="ours").invite
    with draining(stores) as drain:
        drain_all(drain)
    write(stores.mirror, "UPDATE ingress_invites SET note = 'theirs'")
    as_text, as_json = relay(stores, "verify"), relay(stores, "verify", "--json")
    assert (as_text.code, as_json.code) == (1, 1)
    assert f"fields_differ    {invite.id}  note\n" in as_text.out
    assert as_json.json["differences"] == [
        {
            "id": invite.id,
            "kind": "fields_differ",
            "fields": ["note"],
            "waiting": False,
            "heals": False,
            "cure": "touch",
        }
    ]
    assert as_json.json["differences_found"] == 1
    (step,) = as_json.json["next_steps"]
    assert as_json.only_line == f"relay: 1 row differs; {step}"


def test_a_difference_that_a_waiting_message_heals_is_told_apart_and_1_only_if_strict(stores: Stores) -> None:
    invite = stores.create().invite
    ended, strict = relay(stores, "verify"), relay(stores, "verify", "--strict")
    assert (ended.code, ended.err, strict.code) == (0, "", 1)
    for one in (ended, strict):
        assert f"missing          {invite.id}  (a message waits)" in one.out
    assert "for 1 of them a message still waits" in strict.only_line


def poisoned(stores: Stores) -> None:
    write(stores.source, "UPDATE outbox_messages SET payload = '{}'")


def of_an_older_state(stores: Stores) -> None:
    write(stores.source, "UPDATE assistant_ingress_invites SET note = 'later', updated_at = updated_at + 1")


def dead(stores: Stores) -> None:
    write(stores.source, "UPDATE outbox_messages SET state = 'dead', settled_at = 1")


def the_contact_is_missing(stores: Stores) -> None:
    write(stores.mirror, "DELETE FROM contacts")


@pytest.mark.parametrize("change", [poisoned, of_an_older_state, dead, the_contact_is_missing])
def test_a_message_that_waits_and_heals_nothing_leaves_a_difference_at_1(
    stores: Stores, change: Callable[[Stores], None]
) -> None:
    stores.create()
    change(stores)
    assert relay(stores, "verify").code == 1


def test_verify_by_id_looks_at_those_alone(stores: Stores) -> None:
    good, bad = stores.create().invite.id, stores.create().invite.id
    with draining(stores) as drain:
        drain_all(drain)
    write(stores.mirror, "DELETE FROM ingress_invites WHERE id = :id", id=bad)
    assert relay(stores, "verify", "--id", good).code == 0
    assert relay(stores, "verify", "--id", good, "--id", bad).code == 1


def test_verify_since_leaves_older_rows_out(stores: Stores) -> None:
    stores.create()
    write(stores.source, "UPDATE assistant_ingress_invites SET updated_at = updated_at - 7200000")
    assert relay(stores, "verify", "--since", "1h").code == 0
    assert relay(stores, "verify", "--since", "3h").code == 1


def test_a_gateway_that_cannot_be_read_is_4_never_clean(stores: Stores) -> None:
    assert_verify_is_4(stores, missing)


def test_a_gateway_without_its_tables_is_4_never_clean(stores: Stores) -> None:
    on_a_server = stores.mirror.dialect.name == "postgresql"
    words = "is not as this release needs it: table ingress_invites is missing" if on_a_server else "has no mirror yet"
    assert_verify_is_4(stores, not_initialised, words)


@pytest.mark.only("sqlite", because="a server's database is no file")
def test_a_gateway_whose_file_is_something_else_is_4_never_clean(stores: Stores) -> None:
    assert_verify_is_4(stores, not_a_database)


@pytest.mark.only("postgresql", because="a server can refuse to be read")
def test_a_gateway_that_may_not_be_read_is_4_never_clean(stores: Stores) -> None:
    assert_verify_is_4(stores, without_rights)


def assert_verify_is_4(stores: Stores, trouble: Trouble, words: str = "cannot be re") -> None:
    with trouble(stores):
        for flag in ((), ("--json",)):
            ended = relay(stores, "verify", *flag)
            assert ended.code == 4
            assert ended.only_line.startswith(f"relay: the gateway's database {shown(stores.mirror_url)} {words}")
            assert ended.out == ""


def test_thousands_of_rows_are_compared_page_by_page_and_each_difference_is_found(stores: Stores) -> None:
    template = stores.create().invite.id
    copy = """
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3500)
        INSERT INTO assistant_ingress_invites ({names})
        SELECT {columns} FROM n, assistant_ingress_invites WHERE id = :id
    """
    columns = ", ".join("substr(CAST(100000 + i AS TEXT), 2)" if name == "id" else name for name in INVITES.columns)
    write(stores.source, copy.format(names=", ".join(INVITES.columns), columns=columns), id=template)
    assert relay(stores, "replay", "--all").code == 0
    assert relay(stores, "verify").code == 0
    changed = [f"{number:05d}" for number in range(3, 3500, 3)]
    among = "', '".join(changed)
    write(stores.mirror, f"UPDATE ingress_invites SET note = 'x' WHERE id IN ('{among}')")
    write(stores.mirror, "DELETE FROM ingress_invites WHERE id = '01000'")
    write(stores.source, "DELETE FROM assistant_ingress_invites WHERE id = '02000'")
    ended = relay(stores, "verify", "--json")
    found = ended.json
    kinds = {one["id"]: one["kind"] for one in found["differences"]}
    assert kinds == dict.fromkeys(changed, "fields_differ") | {"01000": "missing", "02000": "extra"}
    assert [one.partition(":")[0] for one in found["next_steps"]] == [
        "1 missing",
        f"{len(changed)} fields_differ",
        "1 extra",
    ]
    assert found["differences_found"] == len(changed) + 2
    assert (found["assistant_rows"], found["gateway_rows"]) == (3500, 3500)


def test_rows_that_change_and_are_mirrored_meanwhile_are_no_drift(stores: Stores) -> None:
    invites = [stores.create(max_uses=10_000).invite.id for _ in range(30)]
    stop = threading.Event()
    changed = threading.Event()

    def keep_changing() -> None:
        while not stop.is_set():
            for id_ in invites:
                stores.use(id_)
            changed.set()

    daemon = threading.Thread(target=keep_changing)
    with running_relay(stores) as worker:
        worker.wait_until_delivered(*invites)
        daemon.start()
        changed.wait(30)
        found = [relay(stores, "verify", "--json").json for _ in range(5)]
        stop.set()
        daemon.join()
        worker.terminate()
    drift = [one for document in found for one in document["differences"] if not one["heals"]]
    assert drift == []
    assert relay(stores, "run", "--until-empty").code == 0
    assert relay(stores, "verify").code == 0
