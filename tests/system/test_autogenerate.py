"""Alembic's autogenerate of the program that a store belongs to: it sees its own tables, and leaves ours alone."""

from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, MetaData, Table

import assistant_store
import gateway_store
from outbox import reading
from outbox.database.autogenerate import IncludeObject
from tests.conftest import Stores, write

OURS = {
    "source": ("assistant_ingress_invites", assistant_store.include_object),
    "mirror": ("ingress_invites", gateway_store.include_object),
}


def found(engine: Engine, declared: MetaData, include: IncludeObject | None) -> list[tuple[Any, ...]]:
    with reading(engine) as connection:
        context = MigrationContext.configure(connection, opts={"include_object": include} if include else {})
        return [one if isinstance(one, tuple) else one[0] for one in compare_metadata(context, declared)]


@pytest.mark.parametrize(("side", "ours", "include"), [(side, *its) for side, its in OURS.items()], ids=OURS)
def test_what_the_program_does_not_declare_is_left_alone_if_it_is_ours(
    stores: Stores, side: str, ours: str, include: IncludeObject
) -> None:
    engine: Engine = getattr(stores, side)
    write(engine, "CREATE TABLE gone_from_the_program (id INTEGER PRIMARY KEY)")
    declared = MetaData()
    Table("made_by_the_program", declared, Column("id", Integer, primary_key=True))

    plain = found(engine, declared, None)
    seen = found(engine, declared, include)

    assert ("remove_table", ours) in [(kind, item.name) for kind, item in plain if kind == "remove_table"]
    assert [(kind, item.name) for kind, item in seen] == [
        ("add_table", "made_by_the_program"),
        ("remove_table", "gone_from_the_program"),
    ]


@pytest.mark.parametrize(("side", "ours", "include"), [(side, *its) for side, its in OURS.items()], ids=OURS)
def test_a_table_of_ours_that_the_program_declares_is_compared_without_our_indexes(
    stores: Stores, side: str, ours: str, include: IncludeObject
) -> None:
    engine: Engine = getattr(stores, side)
    declared = MetaData()
    with reading(engine) as connection:
        # Its columns, and not what hangs on them.
        table = Table(ours, declared, autoload_with=connection)
        table.append_column(Column("of_its_own", Integer))
        made = {index.name for index in table.indexes}
        table.indexes.clear()

    seen = found(engine, declared, include)

    assert ("add_column", "of_its_own") in [(one[0], one[3].name) for one in seen if one[0] == "add_column"]
    removed = {one[1].name for one in seen if one[0] == "remove_index"}
    assert removed == (made if side == "source" else set())
