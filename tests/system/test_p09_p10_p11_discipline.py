"""P9, P10, P11: fenced settling, no transaction across a call, and no secret anywhere but in the two stores."""

import json
import signal
import socket
import stat
from collections.abc import Sequence

import pytest
from sqlalchemy import Engine, inspect
from sqlalchemy.pool import QueuePool

from outbox import Message, open_engine, writing
from outbox.sqlite import sqlite_path
from relay.worker import Worker
from tests.conftest import Stores, rows, write
from tests.relay.rig import Meddling, drain_all, draining, gateway_of, settings_of
from tests.relay.test_suspects import after_a_crash
from tests.system.freezing import freeze
from tests.system.processes import relay, running_relay

NEEDS_EVERY_LOCK = {
    "sqlite": "CREATE TABLE IF NOT EXISTS lock_was_free (n)",
    # Even a transaction that only reads would hold it up.
    "postgresql": "LOCK TABLE outbox_messages, outbox_leases, outbox_relays IN ACCESS EXCLUSIVE MODE NOWAIT",
}


def test_p09_a_relay_whose_leases_were_taken_settles_nothing_more_of_those_shards(stores: Stores) -> None:
    # A long lease, so that it is neither renewed nor run out meanwhile.
    with running_relay(stores, RELAY_LEASE="60") as fenced:
        fenced.wait_until_delivered(stores.create().invite.id)
        freeze(fenced, stores)
        write(stores.source, "UPDATE outbox_leases SET owner = 'other', token = 'o' || shard")
        invite = stores.create().invite.id
        fenced.process.send_signal(signal.SIGCONT)
        fenced.wait_for("lease_lost")
        assert fenced.terminate() == 0
    assert stores.states() == ["delivered", "pending"]
    assert stores.mirrored(invite) is not None, "its late delivery arrived, which is harmless"
    assert len(rows(stores.source, "SELECT * FROM outbox_leases WHERE owner = 'other'")) == 64


def test_p09_a_relay_that_lost_its_leases_does_not_deliver_the_same_batch_over_and_over(stores: Stores) -> None:
    invite = stores.create().invite.id
    with gateway_of(stores) as real:
        gateway = Meddling(real)

        def lose_the_leases_once(_: Sequence[Message]) -> None:
            gateway.after = lambda _: None
            write(stores.source, "DELETE FROM outbox_leases")

        gateway.after = lose_the_leases_once
        Worker(stores.source, gateway, settings_of(stores)).run(until_empty=True)
    assert gateway.delivered == [[invite], [invite]]
    assert stores.states() == ["delivered"]


def test_p10_no_transaction_of_the_daemons_database_is_open_while_the_gateway_is_called(stores: Stores) -> None:
    for _ in range(4):
        stores.create()
    stores.create(contact_id="nobody")
    checked_out: list[int] = []
    other = open_engine(stores.source_url, busy_timeout=0)

    def look(_: Sequence[Message]) -> None:
        pool = stores.source.pool
        assert isinstance(pool, QueuePool)
        checked_out.append(pool.checkedout())
        # Raises, and so refuses the message, if a transaction is open that could stand in the way.
        with writing(other) as connection:
            connection.exec_driver_sql(NEEDS_EVERY_LOCK[stores.source.dialect.name])

    with gateway_of(stores) as real:
        gateway = Meddling(real, before=look, after=look)
        with draining(stores, gateway, batch_size=2) as drain:
            drain_all(drain)
        with after_a_crash(stores), draining(stores, gateway) as drain:
            write(stores.source, "UPDATE outbox_messages SET available_at = 0 WHERE state = 'retrying'")
            drain.suspect(range(64))
            drain_all(drain)
    other.dispose()
    assert len(checked_out) >= 8
    assert set(checked_out) == {0}
    assert [(row["state"], row["attempts"]) for row in stores.messages()] == [("delivered", 0)] * 4 + [("retrying", 2)]


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
    assert any(f"{bad.invite.token_hash[:8]}…" in text for text in shown), "the payload is shown, its hashes shortened"
    stored = stored_text(stores.source) + stored_text(stores.mirror)
    assert good.invite.token_hash in stored
    assert not any(created.raw_token and created.raw_token in stored for created in (good, lost, voice, bad))


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
