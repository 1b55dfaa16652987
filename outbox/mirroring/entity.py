"""What the batch must know of one kind of row: a store has one `Entity` for each kind that it mirrors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from sqlalchemy import Connection

from outbox.mirroring.errors import MirrorRefusedError

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")


@dataclass(frozen=True, slots=True)
class Locked(Generic[Row]):
    """What a batch refers to: it stays as it is until the transaction ends, or is changed by the batch itself."""

    references: set[str]
    """Keys of the rows of other tables to which rows of the batch refer, of those that are there."""
    rows: dict[str, Row]
    """The rows of the batch that are there, by key."""


class Entity(Protocol[Row, Outcome]):
    """Everything here happens within the caller's transaction, and raises what the database raises."""

    @property
    def table(self) -> str:
        """Whose table it is, as refusals name it."""

    def key(self, row: Row) -> str: ...

    def lock(self, connection: Connection, rows: Sequence[Row]) -> Locked[Row]:
        """Locks what the rows refer to, and then those that are there, each in the order of their keys."""

    def ask(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Asks for all that `lock` asks for, and locks nothing: it fails for a row that cannot even be asked for."""

    def is_there(self, connection: Connection, row: Row) -> bool:
        """Whether the row is there now; it is not locked."""

    def write(
        self, connection: Connection, locked: Locked[Row], rows: Sequence[Row]
    ) -> list[Outcome | MirrorRefusedError]:
        """Merges and writes all rows, and brings ``locked`` up to date; a result each, in order.

        If the table refuses one of them, the database's error, with ``locked`` as before.
        """

    def salvage(self, connection: Connection, locked: Locked[Row], row: Row) -> str:
        """Takes over what must not wait, of a row that is there and that the table refuses to change as a whole.

        Returns what the refusal says about it, or "" if nothing had to be taken over.
        """
