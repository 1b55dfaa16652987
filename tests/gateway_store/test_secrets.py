"""P11: no hash is shown in an error or a repr, and the database's files are private to their owner."""

import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from gateway_store import InvitePayload, MirrorRefusedError, mirror_batch
from outbox import open_engine
from tests.conftest import write
from tests.gateway_store.examples import CODE_HASH, OTHER_HASH, TOKEN_HASH, deliver, invite, payload
from tests.gateway_store.shapes import make, upgrade

HASHES = [TOKEN_HASH, CODE_HASH, OTHER_HASH]
SECRET = payload(voiceCodeHash=OTHER_HASH, voiceCodeDigits=6)
REFUSED: dict[str, Any] = {
    "another token": SECRET | {"tokenHash": CODE_HASH},
    "another code": SECRET | {"inviteCodeHash": OTHER_HASH},
    "another voice code": SECRET | {"voiceCodeHash": CODE_HASH},
    "an unknown contact": SECRET | {"id": "other", "contactId": "no-such"},
    "bad fields beside the hashes": SECRET | {"maxUses": 0},
    "hashes that are bad fields": SECRET | {"tokenHash": [TOKEN_HASH], "inviteCodeHash": CODE_HASH + "\x00"},
    "a hash in a field of its own kind": SECRET | {"status": TOKEN_HASH, "maxUses": CODE_HASH},
    "a hash that is the payload": json.dumps(TOKEN_HASH),
    "a text cut short": json.dumps(SECRET)[:-1],
    "a row that the table refuses": SECRET | {"id": "thief"},
}
only_files = pytest.mark.only("sqlite", because="the files of PostgreSQL are its server's")


def shows_a_hash(text: str) -> bool:
    return any(value[:12] in text for value in HASHES)


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_no_refusal_shows_a_hash(mirror: Engine, refused: Any) -> None:
    write(mirror, "CREATE UNIQUE INDEX one_token ON ingress_invites (token_hash)")
    deliver(mirror, SECRET)
    with Session(mirror) as session, session.begin():
        (refusal,) = mirror_batch(session.connection(), [refused])
    assert isinstance(refusal, MirrorRefusedError)
    assert not shows_a_hash(str(refusal) + repr(refusal) + "".join(traceback.format_exception(refusal)))
    assert not shows_a_hash(repr(vars(refusal)))


def test_a_row_and_a_payload_hide_their_hashes_when_shown() -> None:
    row = invite(voice_code_hash=OTHER_HASH)
    model = InvitePayload.model_validate(SECRET)
    assert "rec-16197" in repr(row)
    assert "rec-16197" in repr(model)
    assert not shows_a_hash(f"{row!r} {row} {model!r} {model}")


def test_a_payload_that_cannot_be_made_shows_no_hash() -> None:
    with pytest.raises(ValidationError, match="tokenHash") as failed:
        InvitePayload.model_validate(SECRET | {"tokenHash": [TOKEN_HASH], "inviteCodeHash": CODE_HASH + "\x00"})
    assert not shows_a_hash(str(failed.value))


def test_an_outcome_hides_the_hashes_when_shown(mirror: Engine) -> None:
    assert not shows_a_hash(repr(deliver(mirror, SECRET)))


@only_files
def test_a_new_database_is_private_to_its_owner(tmp_path: Path, url: str) -> None:
    upgrade(url)
    assert (tmp_path / "gateway.db").stat().st_mode & 0o777 == 0o600


@only_files
def test_a_database_that_was_readable_by_all_is_private_after_the_upgrade(tmp_path: Path, url: str) -> None:
    make(url, "old", invites=1)
    (tmp_path / "gateway.db").chmod(0o644)
    upgrade(url)
    assert (tmp_path / "gateway.db").stat().st_mode & 0o777 == 0o600


@only_files
def test_the_files_beside_the_database_are_private_too(tmp_path: Path, mirror: Engine) -> None:
    deliver(mirror, SECRET)
    found = {file.name: file.stat().st_mode & 0o777 for file in tmp_path.iterdir()}
    assert found == {"gateway.db": 0o600, "gateway.db-wal": 0o600, "gateway.db-shm": 0o600}


def test_an_error_of_the_database_itself_shows_no_parameters(url: str) -> None:
    engine = open_engine(url)
    with Session(engine) as session, pytest.raises(Exception, match=r"no such table|does not exist") as failed:
        mirror_batch(session.connection(), [SECRET | {"id": TOKEN_HASH}])
    assert not shows_a_hash(str(failed.value))
    engine.dispose()
