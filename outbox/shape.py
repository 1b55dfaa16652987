"""Telling whether a table that exists has the shape that a migration can adopt."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, inspect
from sqlalchemy.types import Enum, Integer, String, TypeEngine

from outbox.errors import SchemaRefusedError


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
