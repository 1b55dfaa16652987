"""The batch knows no kind of row: whatever is mirrored, one row that is refused fails alone, and says why (P8)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from sqlalchemy import Connection, Engine

from outbox import writing
from outbox.mirroring import batch
from outbox.mirroring.errors import MirrorRefusedError, StoredRowError
from outbox.mirroring.merge import Row
from tests.conftest import allowed, rows, write
from tests.outbox.conftest import Outbox
from tests.outbox.mirroring.parcels import TABLES, Parcels

Batch = list[Row | MirrorRefusedError]
Results = list[str | MirrorRefusedError]
Mirrored = Callable[[Engine, Batch], Results]
NOT_READ = MirrorRefusedError("not read")


def in_the_callers_transaction(engine: Engine, given: Batch) -> Results:
    with writing(engine) as connection:
        return batch.mirror(connection, Parcels(), given)


def in_one_of_its_own(engine: Engine, given: Batch) -> Results:
    return batch.mirror_and_commit(partial(writing, engine), Parcels(), given, allowed)


WAYS = [in_the_callers_transaction, in_one_of_its_own]


@pytest.fixture
def engine(box: Outbox) -> Engine:
    for table in TABLES:
        write(box.engine, table)
    return box.engine


def parcel(id_: str, name: str | None = None, state: str = "open", at: int = 1, shelf: str = "s1") -> Row:
    return (id_, shelf, state, name or id_, at)


def kept(engine: Engine) -> dict[str, str]:
    return {row["id"]: f"{row['name']}, {row['state']}" for row in rows(engine, "SELECT * FROM parcels")}


@pytest.mark.parametrize("mirrored", WAYS)
def test_every_row_of_a_batch_has_its_own_result_in_order(engine: Engine, mirrored: Mirrored) -> None:
    given: Batch = [parcel("b"), NOT_READ, parcel("lost", shelf="s2"), parcel("a"), parcel("b", "B", at=2)]
    words = list(map(str, mirrored(engine, given)))
    assert words == ["mirrored b", "not read", "no shelf s2", "mirrored a", "mirrored b"]
    assert kept(engine) == {"a": "a, open", "b": "B, open"}


@pytest.mark.parametrize("mirrored", WAYS)
def test_a_row_that_the_table_refuses_fails_alone_between_others_of_every_kind(
    engine: Engine, mirrored: Mirrored
) -> None:
    for known_before in (parcel("a", "taken"), parcel("b")):
        mirrored(engine, [known_before])
    given: Batch = [parcel("c"), NOT_READ, parcel("d", "taken"), parcel("b", "taken", "shut", 2), parcel("e")]
    first, unread, new, known, last = mirrored(engine, given)
    assert (first, unread, last) == ("mirrored c", NOT_READ, "mirrored e")
    assert isinstance(new, StoredRowError)
    assert str(new).startswith("the table of parcels refuses the row: ")
    assert str(known).endswith("; it is shut all the same")
    assert kept(engine) == {"a": "taken, open", "b": "b, shut", "c": "c, open", "e": "e, open"}


def test_what_begins_the_transaction_may_still_end_it_without_a_trace(engine: Engine) -> None:
    @contextmanager
    def begin() -> Iterator[Connection]:
        with writing(engine) as connection:
            yield connection
            raise PermissionError("the lease is lost")

    with pytest.raises(PermissionError):
        batch.mirror_and_commit(begin, Parcels(), [parcel("a")], allowed)
    assert kept(engine) == {}


def test_a_fence_that_refuses_leaves_no_trace(engine: Engine) -> None:
    def refuse() -> None:
        raise PermissionError("the lease is lost")

    with pytest.raises(PermissionError):
        batch.mirror_and_commit(partial(writing, engine), Parcels(), [parcel("a")], refuse)
    assert kept(engine) == {}
