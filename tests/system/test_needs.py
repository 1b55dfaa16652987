"""What each store is checked for is all that its scripts make: no column made later is left out of the check."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, Engine, inspect

import assistant_store.migrate
import gateway_store.migrate
from outbox import reading
from outbox.database.catalogue import Catalogue, read_catalogue
from outbox.database.migrate import Scripts
from outbox.database.shape import ANY, Needs
from tests.conftest import Stores, write

OF_THE_SOURCE, OF_THE_MIRROR = assistant_store.migrate.PARTS, (gateway_store.migrate.SCRIPTS,)
SIDES: dict[str, tuple[tuple[Scripts, ...], Callable[[Stores], Engine], Callable[[Connection], str | None]]] = {
    "source": (OF_THE_SOURCE, lambda stores: stores.source, assistant_store.migrate.schema_problem),
    "mirror": (OF_THE_MIRROR, lambda stores: stores.mirror, gateway_store.migrate.schema_problem),
}
# A trigger whose absence an upgrade mends; an index that an adopted table need not have; and constraints, as
# which only PostgreSQL has an index by name.
NOT_NEEDED = ("_no_leap_by_", "ix_assistant_ingress_invites_token_hash", "outbox_leases_token_key", "_pkey")


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def made_in(engine: Engine, parts: tuple[Scripts, ...]) -> Catalogue:
    with reading(engine) as connection:
        names = set(inspect(connection).get_table_names()) - {part.version_table for part in parts}
        return read_catalogue(connection, {name for name in names if not name.startswith("sqlite_")})


def needed(side: str, backend: str) -> Iterator[Needs]:
    return (part.needs(backend) for part in SIDES[side][0])


def test_every_table_column_and_key_that_the_scripts_make_is_needed(stores: Stores, side: str, backend: str) -> None:
    parts, engine_of, _ = SIDES[side]
    made = made_in(engine_of(stores), parts)
    tables = {name: columns for one in needed(side, backend) for name, columns in one.tables.items()}
    assert {name: set(columns) for name, columns in made.columns.items()} == {
        name: set(columns) for name, columns in tables.items()
    }
    for name, columns in tables.items():
        known = {column: kind for column, kind in columns.items() if kind != ANY}
        assert made.columns[name].items() >= known.items()
    keys = {name: set(key) for one in needed(side, backend) for name, key in one.keys.items()}
    assert {name: set(key) for name, key in made.keys.items()} == keys


def test_every_index_and_trigger_that_the_scripts_make_is_needed(stores: Stores, side: str, backend: str) -> None:
    parts, engine_of, _ = SIDES[side]
    found = {
        (kind, name, table)
        for kind, name, table in made_in(engine_of(stores), parts).objects
        if not name.startswith("sqlite_") and not any(word in name for word in NOT_NEEDED)
    }
    made = {one[:3] for need in needed(side, backend) for one in need.made}
    assert {one for one in found if one[0] != "sequence"} == made


@pytest.mark.parametrize("put", ["", "CREATE VIEW {table} AS SELECT * FROM away"], ids=["nothing", "a view"])
def test_every_table_is_missed(stores: Stores, side: str, backend: str, put: str) -> None:
    _, engine_of, problem = SIDES[side]
    engine = engine_of(stores)
    for table in [table for one in needed(side, backend) for table in one.tables]:
        write(engine, f"ALTER TABLE {table} RENAME TO away")
        if put:
            write(engine, put.format(table=table))
        with reading(engine) as connection:
            said = problem(connection)
        assert said is not None
        assert f"table {table} is missing" in said
        if put:
            write(engine, f"DROP VIEW {table}")
        write(engine, f"ALTER TABLE away RENAME TO {table}")


def test_every_column_is_missed(stores: Stores, side: str, backend: str) -> None:
    """Renamed, which every database can do with a column that others depend on."""
    _, engine_of, problem = SIDES[side]
    engine = engine_of(stores)
    for table, columns in [pair for one in needed(side, backend) for pair in one.tables.items()]:
        for column in columns:
            write(engine, f"ALTER TABLE {table} RENAME COLUMN {column} TO away")
            with reading(engine) as connection:
                said = problem(connection)
            assert said is not None
            assert f"column {column} of {table} is missing" in said
            write(engine, f"ALTER TABLE {table} RENAME COLUMN away TO {column}")
    with reading(engine) as connection:
        assert problem(connection) is None
