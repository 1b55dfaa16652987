"""A daemon's table of another shape is refused by what is odd about it, and nothing is touched."""

from collections.abc import Callable

import pytest

from assistant_store import upgrade
from outbox import SchemaRefusedError, open_engine
from tests.assistant_store.daemon import TABLE, definitions, invite_row, make_daemon_database
from tests.gateway_store.catalogue import content, run

Columns = dict[str, str]
BYTES = {"sqlite": "BLOB", "postgresql": "BYTEA"}


def refused_untouched(url: str, words: str) -> str:
    """The refusal, with everything in the database as it was before."""
    before = content(url)
    engine = open_engine(url)

    with pytest.raises(SchemaRefusedError, match=words) as raised:
        upgrade(engine)
    engine.dispose()

    assert content(url) == before
    return str(raised.value)


def without_id_key(columns: Columns) -> Columns:
    return columns | {"id": "TEXT NOT NULL"}


def another_key(columns: Columns) -> Columns:
    return columns | {"id": "TEXT NOT NULL", "token_hash": "TEXT PRIMARY KEY"}


def without_status(columns: Columns) -> Columns:
    return {name: kind for name, kind in columns.items() if name != "status"}


def with_colour(columns: Columns) -> Columns:
    return columns | {"colour": "TEXT"}


def with_text_instants(columns: Columns) -> Columns:
    return columns | {"updated_at": "TEXT NOT NULL"}


def with_real_uses(columns: Columns) -> Columns:
    return columns | {"max_uses": "REAL NOT NULL"}


def with_numbered_notes(columns: Columns) -> Columns:
    return columns | {"note": "INTEGER"}


def with_notes_that_must_be_there(columns: Columns) -> Columns:
    return columns | {"note": "TEXT NOT NULL DEFAULT ''"}


def all_at_once(columns: Columns) -> Columns:
    return with_colour(with_text_instants(without_status(without_id_key(columns))))


@pytest.mark.parametrize(
    ("odd", "named"),
    [
        (without_id_key, ["the primary key is missing, not id"]),
        (another_key, ["the primary key is token_hash, not id"]),
        (without_status, ["column status is missing"]),
        (with_colour, ["column colour is unknown"]),
        (with_text_instants, ["column updated_at is TEXT, not integer"]),
        (with_real_uses, ["column max_uses is REAL, not integer"]),
        (with_numbered_notes, ["column note is INTEGER, not text"]),
        (with_notes_that_must_be_there, ["column note must take NULL"]),
        (
            all_at_once,
            [
                "the primary key is missing",
                "column status is missing",
                "column colour is unknown",
                "updated_at is TEXT",
            ],
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_table_of_another_shape_is_refused_by_what_is_odd_and_nothing_is_touched(
    url: str, backend: str, odd: Callable[[Columns], Columns], named: list[str]
) -> None:
    columns = odd(definitions(backend))
    numbered = {"note": 1} if odd is with_numbered_notes else {}
    row = {name: value for name, value in (invite_row(1) | numbered).items() if name in columns}
    make_daemon_database(url, columns, [row])

    message = refused_untouched(url, f"^{TABLE} in .+ has a shape that")

    assert all(one in message for one in named)


def test_bytes_for_text_are_refused(url: str, backend: str) -> None:
    make_daemon_database(url, definitions(backend) | {"note": BYTES[backend]})

    refused_untouched(url, f"column note is {BYTES[backend]}, not text")


@pytest.mark.only("postgresql", because="SQLite has neither enumerated types nor domains")
@pytest.mark.parametrize("kind", ["ENUM ('active', 'redeemed', 'revoked', 'expired')", "DOMAIN"])
def test_a_status_of_a_type_that_takes_no_plain_text_is_refused(url: str, backend: str, kind: str) -> None:
    run(url, "CREATE DOMAIN mine AS TEXT" if kind == "DOMAIN" else f"CREATE TYPE mine AS {kind}")
    make_daemon_database(url, definitions(backend) | {"status": "mine NOT NULL"})

    refused_untouched(url, "column status is mine, not text")


@pytest.mark.parametrize("name", ["outbox_messages", "outbox_leases", "outbox_relays"])
def test_a_table_of_the_outboxs_name_is_refused_and_the_daemons_is_left_alone(daemon_url: str, name: str) -> None:
    run(daemon_url, f"CREATE TABLE {name} (id TEXT)")

    refused_untouched(daemon_url, f"has tables of another origin: {name}")


def test_a_store_of_a_later_release_is_refused_and_left_as_it_is(daemon_url: str) -> None:
    engine = open_engine(daemon_url)
    upgrade(engine)
    engine.dispose()
    run(daemon_url, "UPDATE assistant_store_schema_version SET version_num = '0042'")

    refused_untouched(daemon_url, r"was upgraded by a later release.*0042")
