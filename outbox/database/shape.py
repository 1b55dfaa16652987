"""Telling whether a table that exists has the shape that a migration can adopt, or that this release needs."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from sqlalchemy import Connection, inspect
from sqlalchemy.types import Enum, Integer, String, TypeEngine

from outbox.database.catalogue import Catalogue, read_catalogue
from outbox.errors import SchemaRefusedError

ANY = "any"
"""Of a column that may be of whatever type its program gave it."""


class Made(NamedTuple):
    """What hangs on a table: an index or a trigger, and the statement that makes it again."""

    kind: str
    name: str
    table: str
    statement: str


class Needs(NamedTuple):
    """What one store's tables must have for this release to work. More than that is others' business."""

    tables: Mapping[str, Mapping[str, str]]
    """By name, each column with ``text``, ``integer`` or `ANY`."""
    keys: Mapping[str, tuple[str, ...]]
    made: Collection[Made] = ()
    references: Collection[tuple[str, str, str]] = ()
    """Table, column, and the table referred to, whose deleted rows take those along that refer to them."""
    sequences: Collection[str] = ()
    with_a_row: Collection[str] = ()
    """Tables in which one row was put when they were made."""


def shape_problem(connection: Connection, needs: Needs) -> str | None:
    """What is not as ``needs`` says, and the cure; None if nothing is."""
    found = read_catalogue(connection, needs.tables)
    lost = [*_odd_tables(found, needs), *_odd_references(found, needs)]
    there = [name for name in needs.with_a_row if name in found.columns]
    lost += [f"{name} has lost its row" for name in there if _is_empty(connection, name)]
    made = [one for one in needs.made if one.table in found.columns and one[:3] not in found.objects]
    if not lost and not made:
        return None
    odd = "; ".join([*lost, *(f"{one.kind} {one.name} is missing" for one in made)])
    if lost:
        return f"is not as this release needs it: {odd}. Restore it from a copy"
    statements = "; ".join(" ".join(one.statement.split()).removesuffix(";") for one in made)
    return f"is not as this release needs it: {odd}. Make again what is missing: {statements}"


def _odd_tables(found: Catalogue, needs: Needs) -> list[str]:
    odd = []
    for table, columns in needs.tables.items():
        have = found.columns.get(table)
        if have is None:
            odd.append(f"table {table} is missing")
            continue
        odd += [f"column {name} of {table} is missing" for name in columns if name not in have]
        odd += [
            f"column {name} of {table} is {have[name]}, not {kind}"
            for name, kind in columns.items()
            if name in have and kind not in (ANY, have[name])
        ]
        key = found.keys.get(table, ())
        if set(key) != set(needs.keys[table]):
            odd.append(
                f"the primary key of {table} is {', '.join(key) or 'missing'}, not {', '.join(needs.keys[table])}"
            )
    return odd


def _odd_references(found: Catalogue, needs: Needs) -> list[str]:
    sequences = {name for kind, name, _ in found.objects if kind == "sequence"}
    odd = [f"sequence {name} is missing" for name in needs.sequences if name not in sequences]
    return odd + [
        f"the foreign key from {column} of {table} to {other}, ON DELETE CASCADE, is missing"
        for table, column, other in needs.references
        if table in found.columns and (table, column, other, "CASCADE") not in found.references
    ]


def _is_empty(connection: Connection, table: str) -> bool:
    return connection.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1").first() is None  # noqa: S608 - our own name


def refuse_other_shape(
    connection: Connection, table: str, expected: Mapping[str, str], nullable: Collection[str] = ()
) -> None:
    """Raises `SchemaRefusedError` naming all that is odd, unless ``table`` has exactly the ``expected`` columns.

    ``expected`` maps each column's name to ``text`` or ``integer``; those in ``nullable`` must take NULL.
    """
    inspector = inspect(connection)
    columns = inspector.get_columns(table)
    found = {column["name"]: column["type"] for column in columns}
    odd = [f"column {name} is missing" for name in expected if name not in found]
    odd += [f"column {name} is unknown" for name in found if name not in expected]
    odd += [
        f"column {name} is {getattr(found[name], 'name', found[name])}, not {kind}"
        for name, kind in expected.items()
        if name in found and not _is(found[name], kind)
    ]
    odd += [
        f"column {column['name']} must take NULL"
        for column in columns
        if column["name"] in nullable and not column["nullable"]
    ]
    key = inspector.get_pk_constraint(table)["constrained_columns"]
    if key != ["id"]:
        odd.append(f"the primary key is {', '.join(key) or 'missing'}, not id")
    if odd:
        raise SchemaRefusedError(
            f"{table} in {connection.engine.url.database} has a shape that cannot be adopted: {'; '.join(odd)}. "
            "Nothing was changed"
        )


def _is(found: TypeEngine[object], kind: str) -> bool:
    # PostgreSQL takes no text where an enumerated type is wanted.
    return isinstance(found, Integer if kind == "integer" else String) and not isinstance(found, Enum)
