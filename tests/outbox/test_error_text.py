"""P11: what a database says of an error holds no hash, not even where a trigger quotes the row in its own words."""

import traceback

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from assistant_store import create_invite
from assistant_store.invites.secret import hash_secret
from outbox import configure_engine, writing
from tests.conftest import Stores, write

HASH = hash_secret("123456")
REFUSES = {
    "sqlite": [
        "CREATE TRIGGER picky BEFORE INSERT ON assistant_ingress_invites "
        f"BEGIN SELECT RAISE(ABORT, 'not {HASH}, nor {HASH[:10]}…'); END"
    ],
    "postgresql": [
        "CREATE FUNCTION picky() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'not {HASH}, nor {HASH[:10]}…'; END $$",
        "CREATE TRIGGER picky BEFORE INSERT ON assistant_ingress_invites FOR EACH ROW EXECUTE FUNCTION picky()",
    ],
}


def failure(engine: Engine) -> DBAPIError:
    with Session(engine) as session, pytest.raises(DBAPIError, match="not ") as failed:
        create_invite(session, source_channel="telegram", contact_id="co-1")
    return failed.value


def test_an_error_that_quotes_a_hash_is_raised_without_it(stores: Stores, backend: str) -> None:
    for statement in REFUSES[backend]:
        write(stores.source, statement)
    error = failure(stores.source)
    said = "".join(traceback.format_exception(error)) + repr(error) + repr(error.orig)
    assert "not [hash], nor [hash]" in str(error)
    assert HASH[:6] not in said


def test_on_an_engine_made_elsewhere_as_well(stores: Stores, backend: str) -> None:
    engine = create_engine(stores.source_url)
    configure_engine(engine)
    for statement in REFUSES[backend]:
        with writing(engine) as connection:
            connection.execute(text(statement))
    assert HASH[:6] not in "".join(traceback.format_exception(failure(engine)))
    engine.dispose()
