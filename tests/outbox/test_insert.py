"""Rows added many at a time: the same rows, and errors that keep them to themselves."""

import pytest
from sqlalchemy.exc import IntegrityError

from outbox import writing
from outbox.database.rows import Insert
from tests.conftest import rows, write
from tests.outbox.conftest import Outbox

INSERT = Insert("parcels", ("id", "name", "number"))
ODD = ["", "\\N", "a\tb\nc\rd", "\\", "'", '"', "ö€😀", "{}", None]


@pytest.fixture(autouse=True)
def table(box: Outbox) -> None:
    write(box.engine, "CREATE TABLE parcels (id TEXT PRIMARY KEY, name TEXT, number BIGINT)")


@pytest.mark.parametrize("at_once", [1, len(ODD)])
def test_whatever_the_text_the_rows_arrive_as_they_were(box: Outbox, at_once: int) -> None:
    wanted = [(f"k{number}", name, None if number % 2 else number) for number, name in enumerate(ODD)]

    with writing(box.engine) as connection:
        for start in range(0, len(wanted), at_once):
            INSERT.run(connection, wanted[start : start + at_once])

    found = rows(box.engine, "SELECT id, name, number FROM parcels ORDER BY id")
    assert [tuple(row.values()) for row in found] == wanted


@pytest.mark.parametrize("at_once", [1, 2])
def test_a_row_that_is_refused_is_an_integrity_error_that_does_not_show_it(box: Outbox, at_once: int) -> None:
    refused = [("s3cret", "second", 1), ("k2", "third", 2)][:at_once]
    with writing(box.engine) as connection:
        INSERT.run(connection, [("s3cret", "first", 0)])

    with pytest.raises(IntegrityError) as raised, writing(box.engine) as connection:
        INSERT.run(connection, refused)

    assert "s3cret" not in str(raised.value) + str(raised.value.orig)
    assert len(rows(box.engine, "SELECT id FROM parcels")) == 1


def test_no_rows_are_no_statement(box: Outbox) -> None:
    with writing(box.engine) as connection:
        INSERT.run(connection, [])
    assert rows(box.engine, "SELECT id FROM parcels") == []
