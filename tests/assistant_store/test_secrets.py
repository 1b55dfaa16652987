"""P11: a raw token or code is returned once and found nowhere else; what is stored is its plain SHA-256."""

import base64
import hashlib
import uuid

from freezegun import freeze_time

from assistant_store.invites.secret import new_code, new_id, new_token
from tests.assistant_store.test_create_rules import VOICE
from tests.conftest import Stores

# Every table and index of the database, and the newest of the log.
READ_FILES = """
    SELECT pg_read_binary_file(pg_relation_filepath(oid)) FROM pg_class
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i')
    UNION ALL SELECT pg_read_binary_file('pg_wal/' || pg_walfile_name(pg_current_wal_insert_lsn()))
"""


def sha256(raw: str) -> str:
    return hashlib.sha256(raw.encode()).hexdigest()


def bytes_on_disk(stores: Stores, backend: str) -> bytes:
    """The database and its write-ahead log, as they lie there."""
    if backend == "sqlite":
        return b"".join(path.read_bytes() for path in sorted(stores.folder.glob("assistant.db*")) if path.is_file())
    with stores.source.connect() as connection:
        # Not in a transaction block, where the settings of `open_engine` have begun none yet.
        cursor = connection.connection.cursor()
        cursor.execute("CHECKPOINT")
        cursor.execute(READ_FILES)
        return b"".join(bytes(part) for (part,) in cursor.fetchall())


def test_an_invite_keeps_the_hashes_of_the_token_and_the_code_that_it_returned(stores: Stores) -> None:
    created = stores.create()

    assert created.raw_token is not None
    assert created.invite.token_hash == sha256(created.raw_token)
    assert created.invite.invite_code_hash == sha256(created.code)
    assert (created.invite.voice_code_hash, created.invite.voice_code_digits) == (None, None)


def test_a_voice_invite_returns_no_token_and_hashes_its_code_apart(stores: Stores) -> None:
    created = stores.create(**VOICE)

    assert created.raw_token is None
    assert len(created.invite.token_hash) == 64
    assert (created.invite.voice_code_hash, created.invite.voice_code_digits) == (sha256(created.code), 6)
    assert created.invite.invite_code_hash is None


def test_a_token_is_32_bytes_in_base64url_and_never_the_same() -> None:
    tokens = [new_token() for _ in range(500)]

    assert {len(base64.urlsafe_b64decode(token + "=")) for token in tokens} == {32}
    assert {len(token) for token in tokens} == {43}
    assert len(set(tokens)) == 500


def test_a_code_has_six_digits_and_any_first_digit_but_0() -> None:
    codes = [new_code() for _ in range(2_000)]

    assert {(len(code), code.isascii() and code.isdigit()) for code in codes} == {(6, True)}
    assert {code[0] for code in codes} == set("123456789")
    assert {code[5] for code in codes} == set("0123456789")


def test_no_raw_token_or_code_reaches_the_disk(stores: Stores, backend: str) -> None:
    created = [stores.create() for _ in range(3)]

    on_disk = bytes_on_disk(stores, backend)

    for one in created:
        assert one.raw_token is not None
        assert one.invite.token_hash.encode() in on_disk
        assert one.raw_token.encode() not in on_disk
        # Six digits alone may turn up in a time by chance, so the code is looked for as a value of its own.
        assert f'"{one.code}"'.encode() not in on_disk
        assert all(one.code not in (str(value), value) for row in stores.messages() for value in row.values())


def test_no_repr_shows_a_secret_or_a_hash(stores: Stores) -> None:
    for created in (stores.create(), stores.create(**VOICE)):
        invite = created.invite
        shown = f"{created!r} {created} {invite!r}"
        hashes = (invite.token_hash, invite.invite_code_hash, invite.voice_code_hash)

        assert invite.id in shown
        assert "raw_token" not in shown
        assert f"'{created.code}'" not in shown
        assert not any(one in shown for one in hashes if one is not None)
        assert created.raw_token is None or created.raw_token not in shown


def test_ids_are_uuids_of_version_7_that_never_repeat_and_grow_with_time() -> None:
    ids = [new_id(now) for now in range(1_700_000_000_000, 1_700_000_000_300)]
    same_moment = {new_id(1_700_000_000_000) for _ in range(1_000)}

    assert ids == sorted(ids)
    assert len(same_moment) == 1_000
    assert {(uuid.UUID(one).version, uuid.UUID(one).variant) for one in ids} == {(7, uuid.RFC_4122)}


def test_an_invites_id_begins_with_the_time_of_its_creation(stores: Stores) -> None:
    with freeze_time("2024-01-01"):
        invite = stores.create().invite

    assert uuid.UUID(invite.id).int >> 80 == invite.created_at
