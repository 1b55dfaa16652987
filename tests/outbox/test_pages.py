"""Pages of a table that others write too: every row is met, none is read that is larger than wanted."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Engine, MetaData, Table, Text, event

from outbox import reading, writing
from outbox.pages import LARGEST_VALUE, PAGE_BYTES, START, Pages, Place, TooLarge, Values, shown_id
from tests.databases import database_url
from tests.outbox.conftest import opened

THINGS = Table(
    "things", MetaData(), Column("id", Text(), primary_key=True), Column("note", Text()), Column("n", BigInteger())
)
PAGES = Pages(THINGS)


@pytest.fixture
def engine(tmp_path: Any, backend: str) -> Iterator[Engine]:
    collation = "" if backend == "sqlite" else ' COLLATE "C"'
    with database_url(backend, tmp_path, "things.db") as url, opened(url) as engine:
        with writing(engine) as connection:
            connection.exec_driver_sql(f"CREATE TABLE things (id TEXT{collation} PRIMARY KEY, note TEXT, n BIGINT)")
        yield engine


def add(engine: Engine, *rows: str) -> None:
    """Each of ``rows`` is the SQL of its values."""
    with writing(engine) as connection:
        for row in rows:
            connection.exec_driver_sql(f"INSERT INTO things VALUES ({row})")


def pages_of(engine: Engine, limit: int) -> list[list[Values]]:
    found: list[list[Values]] = []
    place: Place | None = START
    while place is not None:
        with reading(engine) as connection:
            page = PAGES.page(connection, place, limit)
        assert len(page.rows) <= limit
        found.append(page.rows)
        place = page.following
    return found


def everything(engine: Engine, limit: int) -> list[Values]:
    return [row for page in pages_of(engine, limit) for row in page]


ODD_IDS = (
    "NULL",
    "NULL",
    "''",
    "'a'",
    "'a' || char(0) || 'b'",
    "'b'",
    "CAST(x'6bfe' AS TEXT)",
    "CAST(x'6bff' AS TEXT)",
    "'z'",
    "x''",
    "x'00'",
    "x'61'",
    "x'ff'",
)
AS_READ = [None, None, "", "a", "a\0b", "b", "k\udcfe", "k\udcff", "z", b"", b"\0", b"a", b"\xff"]


@pytest.mark.only("sqlite", because="PostgreSQL's columns hold text alone, and no NUL")
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 100])
def test_every_row_is_met_once_in_the_order_of_ids_whatever_the_ids_are(engine: Engine, limit: int) -> None:
    add(engine, *(f"{id_}, NULL, 1" for id_ in reversed(ODD_IDS)))

    assert [row[0] for row in everything(engine, limit)] == AS_READ


@pytest.mark.only("sqlite", because="PostgreSQL's columns hold what they are declared to hold")
def test_values_come_as_they_stand(engine: Engine) -> None:
    add(engine, "'a', x'ff00', 9e999", "'b', CAST(x'e9' AS TEXT), 'seven'", "'c', 'ü', x'01'", "'d', '\ufffd', 1.5")

    assert everything(engine, 100) == [
        ("a", b"\xff\0", float("inf")),
        ("b", "\udce9", "seven"),
        ("c", "ü", b"\1"),
        ("d", "\ufffd", 1.5),
    ]
    with reading(engine) as connection:
        assert PAGES.by_id(connection, ["b", "c"]) == {"b": ("b", "\udce9", "seven"), "c": ("c", "ü", b"\1")}


def test_text_is_read_as_before_by_whoever_reads_next(engine: Engine, backend: str) -> None:
    add(engine, "'a', 'ü', 1", *(["'b', CAST(x'e9' AS TEXT), 1"] if backend == "sqlite" else []))
    with reading(engine) as connection:
        PAGES.page(connection, START, 10)
        notes = connection.exec_driver_sql("SELECT note FROM things ORDER BY id").scalars().all()

    assert notes == (["ü", "\ufffd"] if backend == "sqlite" else ["ü"])


def filled(backend: str, size: int) -> str:
    return f"CAST(zeroblob({size}) AS TEXT)" if backend == "sqlite" else f"repeat('x', {size})"


def test_a_value_that_is_too_large_stays_in_the_database_and_its_size_is_told(engine: Engine, backend: str) -> None:
    size = LARGEST_VALUE + 1
    add(
        engine,
        "'a', 'x', 1",
        f"'b', {filled(backend, size)}, 2",
        f"'c', {filled(backend, LARGEST_VALUE)}, 3",
        "'d', NULL, 4",
    )

    a, b, c, d = everything(engine, 100)

    assert (a, d) == (("a", "x", 1), ("d", None, 4))
    assert (b[0], str(b[1]), b[2]) == ("b", f"a value of {size} bytes", 2)
    assert (c[0], len(str(c[1])), c[2]) == ("c", LARGEST_VALUE, 3)
    with reading(engine) as connection:
        found = PAGES.by_id(connection, ["a", "b"])
    assert found["a"] == a
    assert isinstance(found["b"][1], TooLarge)
    assert found["b"] != b, "nobody has compared them"


@pytest.mark.only(
    "sqlite", because="PostgreSQL's integers have one size, and its ids end where a page of an index does"
)
def test_size_is_bounded_in_every_column(engine: Engine) -> None:
    huge = LARGEST_VALUE + 7
    add(engine, f"'a', 'x', zeroblob({huge})", f"{filled('sqlite', huge)}, 'y', 1", f"zeroblob({huge}), 'z', 1")

    found = everything(engine, 2)

    assert (
        sorted(str(value) for row in found for value in row if isinstance(value, TooLarge))
        == [f"a value of {huge} bytes"] * 3
    )
    assert sorted(str(row[1]) for row in found) == ["x", "y", "z"]


def test_large_values_never_leave_the_database(engine: Engine, backend: str) -> None:
    add(engine, *(f"'{n}', {filled(backend, LARGEST_VALUE + 1 if n % 2 else 2**19)}, {n}" for n in range(10, 40)))
    held: list[int] = []

    def weigh(rows: list[Values]) -> None:
        held.append(sum(len(value) for row in rows for value in row if isinstance(value, str | bytes)))

    for page in pages_of(engine, 100):
        weigh(page)

    assert max(held) <= PAGE_BYTES + LARGEST_VALUE
    assert sum(held) == 15 * 2**19 + 30 * 2


def test_a_page_of_large_rows_is_short_and_the_next_goes_on_behind_it(engine: Engine, backend: str) -> None:
    add(engine, *(f"'{n}', {filled(backend, 2**19)}, {n}" for n in range(10, 40)))

    pages = pages_of(engine, 100)

    assert [row[2] for page in pages for row in page] == list(range(10, 40))
    assert {len(page) for page in pages[:-1]} == {PAGE_BYTES // 2**19 - 1}


@pytest.mark.only("sqlite", because="it tells its plans in these words")
def test_pages_are_read_through_the_index_of_ids(engine: Engine) -> None:
    sent: list[tuple[str, Any]] = []
    with reading(engine) as connection:
        event.listen(connection, "before_cursor_execute", lambda *a: sent.append((a[2], a[3])))
        PAGES.page(connection, Place("a", 1), 10)
    with reading(engine) as connection:
        plan = [
            row.detail for one in sent for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {one[0]}", one[1])
        ]

    assert plan == ["SEARCH things USING INDEX sqlite_autoindex_things_1 (id>?)"]


@pytest.mark.parametrize(
    ("id_", "shown"),
    [
        ("a", "a"),
        ("ü", "ü"),
        (b"\xff", "x'ff'"),
        ("k\udcff", "CAST(x'6bff' AS TEXT)"),
        ("a\0b", "CAST(x'610062' AS TEXT)"),
        (None, "NULL"),
        (TooLarge(5), "a value of 5 bytes"),
        (b"a" * 65, f"x'{'61' * 64}…'"),
    ],
)
def test_an_id_is_shown_so_that_its_row_can_be_found(id_: Any, shown: str) -> None:
    assert shown_id(id_) == shown
