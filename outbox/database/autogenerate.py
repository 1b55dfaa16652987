"""Keeping Alembic's autogenerate, in a program that has tables of its own beside ours, from dropping ours."""

from typing import Protocol

from sqlalchemy.schema import SchemaItem

from outbox.database.migrate import Scripts


class IncludeObject(Protocol):
    """Alembic's hook of that name, an option of ``context.configure``."""

    def __call__(
        self, item: SchemaItem, name: str | None, type_: str, reflected: bool, compare_to: SchemaItem | None, /
    ) -> bool: ...


def leaving_alone(*parts: Scripts) -> IncludeObject:
    """A hook that takes out what ``parts`` made and the program itself does not declare.

    A table or index that the program declares as well is compared as any other of its own.
    """
    made = [part.needs(dialect) for part in parts for dialect in ("sqlite", "postgresql")]
    ours = {
        "table": {name for needs in made for name in needs.tables} | {part.version_table for part in parts},
        "index": {one.name for needs in made for one in needs.made if one.kind == "index"},
    }

    def include(
        _item: SchemaItem, name: str | None, type_: str, reflected: bool, compare_to: SchemaItem | None, /
    ) -> bool:
        is_theirs = not reflected or compare_to is not None
        return is_theirs or name not in ours.get(type_, ())

    return include
