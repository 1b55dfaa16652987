"""Why a row is not mirrored. `UnmergeableError` is about two rows; a store says what that means for its own."""

from collections.abc import Sequence


class MirrorRefusedError(Exception):
    """The root of all refusals of a row. The same row will be refused again, unless the refusal says otherwise."""


class StoredRowError(MirrorRefusedError):
    """The store's own row cannot be merged with, or its table refuses the row, for a reason of its own."""


class UnmergeableError(Exception):
    """The root of what `Merge` raises about the contents of two rows. None holds a value but that of a rank."""


class FieldsDifferError(UnmergeableError):
    """The rows differ in fields that never change; ``names`` has all of them, in the order of the declaration."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(f"different {', '.join(names)}")
        self.names = tuple(names)


class UnknownRankError(UnmergeableError):
    """A value that stands in no order of ranks."""

    def __init__(self, field: str, value: object) -> None:
        super().__init__(f"unknown {field} {value!r}")
        self.field = field
        self.value = value


class UnorderedError(UnmergeableError):
    """Neither of two values is larger, for they are of different types: SQLite keeps any in a column of any type."""

    def __init__(self) -> None:
        super().__init__("two values of different types")
