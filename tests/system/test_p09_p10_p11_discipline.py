"""P9, P10, P11: fenced relays, no transaction kept open for a call, and no secret anywhere but in the two stores."""

import json
import signal
import socket
import stat
from collections.abc import Sequence

import pytest
from sqlalchemy import Connection, Engine, event, inspect

from assistant_store import CreatedInvite
from outbox import Destination, open_engine, writing
from outbox.clock import now_ms
from outbox.database.sqlite import sqlite_path
from outbox.leases import LONGEST_LEASE, Leases
from relay.destinations.port import Delivery
from relay.worker import Worker
from tests.conftest import Stores, rows, write
from tests.postgresql.waiting import until
from tests.relay.rig import Meddling, drain_all, draining, gateway_of, settings_of
from tests.relay.test_suspects import after_a_crash
from tests.system.freezing import freeze
from tests.system.processes import relay, running_relay

NEEDS_EVERY_LOCK = {
    "sqlite": "CREATE TABLE IF NOT EXISTS lock_was_free (n)",
    # Even a transaction that only reads would hold it up.
    "postgresql": "LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE",
}
OF_THE_OUTBOX = "outbox_messages, outbox_leases, outbox_relays"
OF_THE_GATEWAY = "ingress_invites, contacts"


def test_p09_a_relay_that_froze_beyond_its_lease_sends_and_settles_nothing_more(stores: Stores) -> None:
    with running_relay(stores, RELAY_LEASE="1") as fenced:
        fenced.wait_until_delivered(stores.create().invite.id)
        freeze(fenced, stores)
        # As if it had not been seen for long: the successor need not leave it a share.
        write(stores.source, "UPDATE outbox_relays SET seen_at = 0")
        successor = Leases(stores.source, LONGEST_LEASE, Destination.GATEWAY)
        until("the leases lapsed", lambda: take_what_lapsed(successor))
        invite = stores.create().invite.id
        woken = now_ms()
        fenced.process.send_signal(signal.SIGCONT)
        # It shows itself again once it has woken, and by then has seen what became of its leases.
        until("it shows itself again", lambda: shown_alive_since(stores, woken))
        assert fenced.terminate() == 0
    assert stores.states() == ["delivered", "pending"]
    assert stores.mirrored(invite) is None
    assert set(successor.tokens) == set(range(64))


def take_what_lapsed(successor: Leases) -> bool:
    successor.balance()
    return len(successor.tokens) == 64


def shown_alive_since(stores: Stores, instant: int) -> bool:
    return bool(rows(stores.source, f"SELECT id FROM outbox_relays WHERE seen_at > {instant}"))


def test_p09_a_relay_that_lost_its_leases_does_not_deliver_the_same_batch_over_and_over(stores: Stores) -> None:
    invite = stores.create().invite.id
    with gateway_of(stores) as real:
        gateway = Meddling(real)

        def lose_the_leases_once(_: Sequence[Delivery]) -> None:
            gateway.after = lambda _: None
            write(stores.source, "DELETE FROM outbox_leases")

        gateway.after = lose_the_leases_once
        Worker(stores.source, gateway, settings_of(stores)).run(until_empty=True)
    assert gateway.delivered == [[invite], [invite]]
    assert stores.states() == ["delivered"]


def test_p10_no_transaction_of_one_store_is_kept_open_for_a_call_of_the_other(stores: Stores) -> None:
    for _ in range(4):
        stores.create()
    stores.create(contact_id="nobody")
    called: list[str] = []

    def outbox_is_free(_: Sequence[Delivery]) -> None:
        called.append("gateway")
        assert_every_lock_can_be_had(stores.source_url, OF_THE_OUTBOX)

    def gateway_is_free(connection: Connection) -> None:
        if connection.engine is stores.source:
            called.append("outbox")
            assert_every_lock_can_be_had(stores.mirror_url, OF_THE_GATEWAY)

    event.listen(Engine, "begin", gateway_is_free)
    try:
        with gateway_of(stores) as real:
            # Raised inside a delivery, an assertion would refuse the message, which is seen at the end.
            gateway = Meddling(real, before=outbox_is_free, after=outbox_is_free)
            with draining(stores, gateway, batch_size=2) as drain:
                drain_all(drain)
            with after_a_crash(stores), draining(stores, gateway) as drain:
                write(stores.source, "UPDATE outbox_messages SET available_at = 0 WHERE state = 'retrying'")
                drain.suspect(range(64))
                drain_all(drain)
    finally:
        event.remove(Engine, "begin", gateway_is_free)
    assert called.count("gateway") >= 8
    assert called.count("outbox") >= 8
    assert [(row["state"], row["attempts"]) for row in stores.messages()] == [("delivered", 0)] * 4 + [("retrying", 2)]


def assert_every_lock_can_be_had(url: str, tables: str) -> None:
    """By somebody who waits for a while: what is open is on its way to its end, and waits for nobody."""
    engine = open_engine(url, busy_timeout=30.0)
    try:
        with writing(engine) as connection:
            connection.exec_driver_sql(NEEDS_EVERY_LOCK[engine.dialect.name].format(tables=tables))
    finally:
        engine.dispose()


def test_p11_no_token_hash_or_code_is_logged_stored_as_a_reason_or_shown(stores: Stores) -> None:
    good, lost = stores.create(), stores.create(contact_id="nobody")
    voice = stores.create(
        source_channel="phone", expected_external_user_id="+15551234567", friend_name="A", guardian_name="B"
    )
    bad = stores.create()
    write(
        stores.source,
        "UPDATE outbox_messages SET payload = replace(payload, 'active', 'odd') WHERE key = :k",
        k=bad.invite.id,
    )
    with running_relay(stores) as worker:
        worker.wait_until_delivered(good.invite.id, voice.invite.id)
        write(
            stores.mirror,
            "UPDATE ingress_invites SET token_hash = :hash WHERE id = :id",
            hash="9" * 64,
            id=good.invite.id,
        )
        stores.revoke(good.invite.id)
        worker.wait_for("refused_for_good", invite=good.invite.id)
        worker.terminate()
    dead = [row["seq"] for row in stores.messages("state = 'dead'")]
    assert len(dead) == 2
    shown = [
        json.dumps(worker.seen),
        json.dumps([row["last_error"] for row in stores.messages()]),
        *(relay(stores, *args).out for args in (("dead", "list"), ("status",), ("status", "--json"), ("verify",))),
        *(
            relay(stores, "dead", "show", str(seq), *flag, COLUMNS="9999").out
            for seq in dead
            for flag in ((), ("--json",))
        ),
    ]
    secrets = ["9" * 64]
    for created in (good, lost, voice, bad):
        hashes = (created.invite.token_hash, created.invite.invite_code_hash, created.invite.voice_code_hash)
        secrets += [secret for secret in (created.raw_token, *hashes) if secret]
        # Six digits occur by chance inside ids and instants; as a word of their own they do not.
        secrets.append(f'"{created.code}"')
    assert [(secret, text) for text in shown for secret in secrets if secret in text] == []
    assert any(f"{bad.invite.token_hash[:8]}…" in text for text in shown), "of a token's hash eight digits are shown"
    assert not any(one in text for text in shown for one in starts_of_code_hashes(good, lost, voice, bad))
    stored = stored_text(stores.source) + stored_text(stores.mirror)
    assert good.invite.token_hash in stored
    assert not any(created.raw_token and created.raw_token in stored for created in (good, lost, voice, bad))


def starts_of_code_hashes(*made: CreatedInvite) -> list[str]:
    """Six digits of a code's hash leave a handful of the 900,000 codes."""
    found = [one for created in made for one in (created.invite.invite_code_hash, created.invite.voice_code_hash)]
    return [one[:6] for one in found if one is not None]


def as_an_earlier_release_told(hash_: str) -> str:
    return f"UNIQUE constraint failed: '{hash_[:8]}…'"


def test_p11_nothing_of_a_codes_hash_is_shown_of_what_earlier_releases_and_other_writers_stored(
    stores: Stores,
) -> None:
    voice = stores.create(
        source_channel="phone", expected_external_user_id="+15551234567", friend_name="A", guardian_name="B"
    )
    made = [stores.create(), voice, stores.create(), stores.create()]
    hashes = [str(one.invite.invite_code_hash or one.invite.voice_code_hash) for one in made]
    payloads = [row["payload"] for row in stores.messages()]
    escaped = "".join(f"\\u{ord(one):04x}" for one in hashes[3])
    payloads[2] = payloads[2][: payloads[2].index(hashes[2]) + 20]
    payloads[3] = payloads[3].replace(hashes[3], escaped)
    for one, hash_, payload in zip(made, hashes, payloads, strict=True):
        write(
            stores.source,
            "UPDATE outbox_messages SET state = 'dead', settled_at = 1, last_error = :told, payload = :payload"
            " WHERE key = :key",
            told=as_an_earlier_release_told(hash_),
            payload=payload,
            key=one.invite.id,
        )
    with running_relay(stores) as worker:
        until("the relay shows itself", lambda: shown_alive_since(stores, 0))
        # Awake, it would write what it says of itself again.
        freeze(worker, stores)
        write(stores.source, "UPDATE outbox_relays SET last_error = :told", told=as_an_earlier_release_told(hashes[0]))
        commands = [("dead", "list"), ("status",), *(("dead", "show", str(row["seq"])) for row in stores.messages())]
        shown = [relay(stores, *one, *flag, COLUMNS="9999").out for one in commands for flag in ((), ("--json",))]
        worker.process.send_signal(signal.SIGCONT)
        worker.terminate()
    assert [(one, text) for text in shown for one in starts_of_code_hashes(*made) if one in text] == []
    assert escaped[:12] not in "".join(shown)
    # Text and JSON, of the dead letters' list and of each message; of the relays' last errors JSON alone.
    assert sum("UNIQUE constraint failed" in text for text in shown) == 2 * (1 + len(made)) + 1


def stored_text(engine: Engine) -> str:
    """All that a database holds: its file, or every row of every table."""
    path = sqlite_path(engine)
    if path is not None:
        engine.dispose()
        return path.read_bytes().decode("latin-1")
    return "".join(str(rows(engine, f"SELECT * FROM {table}")) for table in inspect(engine).get_table_names())


@pytest.mark.only("postgresql", because="SQLite has files, and its wake-up is a socket")
def test_p11_a_relay_between_two_servers_leaves_no_file_anywhere_near(stores: Stores) -> None:
    with running_relay(stores) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        assert worker.terminate() == 0
    assert list(stores.folder.iterdir()) == []


@pytest.mark.only("sqlite", because="the files of PostgreSQL are its server's, and its wake-up needs none")
def test_p11_database_files_and_wake_up_sockets_are_private_to_their_owner(stores: Stores) -> None:
    assert relay(stores, "init").code == 0
    with running_relay(stores) as worker:
        worker.wait_until_delivered(stores.create().invite.id)
        wake = stores.folder / "assistant.db-wake"
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in stores.folder.glob("*.db*")}
        sockets = [stat.S_IMODE(path.stat().st_mode) for path in wake.iterdir()]
        assert modes.pop("assistant.db-wake") == 0o700
        assert sockets == [0o600]
        assert set(modes) >= {"assistant.db", "assistant.db-wal", "gateway.db"}
        assert set(modes.values()) == {0o600}
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            probe.sendto(b"", str(next(wake.iterdir())))
        worker.terminate()
    assert list(wake.iterdir()) == []
