"""An outbox of an earlier release in a database that is not UTF8: what it cannot keep or send stops nothing else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from outbox import Outcome, Verdict
from outbox.fence import Prove
from outbox.message import Destination
from relay.destinations.port import Delivery
from relay.destinations.schemes import known_as
from relay.introduction import Introduction
from tests.conftest import Stores, rows, stores_at, write
from tests.databases import database_url, server_database_in
from tests.outbox.conftest import opened
from tests.relay.rig import Anonymous, Around, drain_all, draining, gateway_of, outcomes
from tests.system.processes import relay

pytestmark = pytest.mark.only("postgresql", because="a server's databases have encodings of their own")


@contextmanager
def stores_in(encoding: str, folder: Path) -> Iterator[Stores]:
    with server_database_in(encoding) as source, database_url("postgresql", folder, "gateway.db") as mirror:
        with opened(source) as engine:
            # As a release wrote it that did not look.
            for name in ("outbox", "assistant_store"):
                write(engine, f"CREATE TABLE {name}_schema_version (version_num VARCHAR(32) PRIMARY KEY)")
        with stores_at(folder, source, mirror) as made:
            yield made


@pytest.mark.parametrize(
    ("odd", "state"),
    [
        (r"UPDATE outbox_messages SET key = E'\\xff' WHERE key = '{id}'", "dead"),
        (r"UPDATE outbox_messages SET payload = replace(payload, 'telegram', E'\\xff') WHERE key = '{id}'", "dead"),
        (r"UPDATE outbox_messages SET last_error = E'\\xff' WHERE key = '{id}'", "delivered"),
        (r"UPDATE assistant_ingress_invites SET note = E'\\xff' WHERE id = '{id}'", "delivered"),
    ],
    ids=["key", "payload", "error", "row"],
)
def test_bytes_that_are_no_text_concern_their_own_message_alone(
    backend: str, tmp_path: Path, odd: str, state: str
) -> None:
    assert backend
    with stores_in("SQL_ASCII", tmp_path) as stores:
        ids = [stores.create().invite.id for _ in range(4)]
        write(stores.source, odd.format(id=ids[1]).replace("\\\\", "\\"))
        relay(stores, "run", "--until-empty")
        found = rows(stores.source, "SELECT state, seq FROM outbox_messages ORDER BY seq")
        assert [row["state"] for row in found] == ["delivered", state, "delivered", "delivered"]
        for command in (["status"], ["verify"], ["replay", "--all"], ["dead", "list"]):
            ended = relay(stores, *command)
            assert ended.code in (0, 1), ended.err


@dataclass(slots=True)
class Foreign(Around):
    """A gateway that refuses in words of another alphabet."""

    def deliver(self, messages: Sequence[Delivery], _prove: Prove) -> list[Verdict]:
        return [Verdict(Outcome.REFUSED_FOR_NOW, "контакт неизвестен") for _ in messages]


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP"])
def test_what_a_relay_writes_itself_can_be_kept_in_any_encoding(backend: str, tmp_path: Path, encoding: str) -> None:
    assert backend
    with stores_in(encoding, tmp_path) as stores, gateway_of(stores) as real:
        stores.create()
        with draining(stores, Foreign(real)) as drain:
            assert outcomes(drain_all(drain)) == [Outcome.REFUSED_FOR_NOW]
            assert rows(stores.source, "SELECT state, last_error AS said FROM outbox_messages") == [
                {"state": "retrying", "said": "контакт неизвестен".encode("ascii", "backslashreplace").decode()}
            ]
            drain.leases.gateway = "unix:///шлюз.sock"
            drain.leases.note(last_error="нет места")
            drain.leases.renew()
            assert len(drain.leases.tokens) == 64


def test_a_gateway_without_an_identity_is_known_again_by_a_url_that_the_database_cannot_keep(
    backend: str, tmp_path: Path
) -> None:
    assert backend
    with stores_in("LATIN1", tmp_path) as stores:
        url = known_as("unix:///шлюз.sock")
        for _ in range(2):
            introduction = Introduction(stores.source, Nameless(), Destination.GATEWAY, url)
            introduction.make()
            introduction.refuse_if_moved()


class Nameless(Anonymous):
    def deliver(self, _messages: Sequence[Delivery], _prove: Prove) -> list[Verdict]:
        raise AssertionError("nothing is delivered here")
