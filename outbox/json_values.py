"""How the values in JSON are read by all who read it strictly: for the arguments of `json.JSONDecoder`."""

from typing import NoReturn

from outbox.message import LARGEST_INTEGER

# As many digits as an integer of 64 bits can have: no length of a longer number costs time.
_MOST_DIGITS = 19


def json_integer(digits: str) -> int | float:
    """For ``parse_int``: far beyond what an integer may be, a number is read as JavaScript does."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def json_number(digits: str) -> int | float:
    """For ``parse_float``: JSON has one kind of number, so 1.0 and 1e3 are integers."""
    return as_integer(float(digits))


def as_integer(value: float) -> int | float:
    return int(value) if abs(value) <= LARGEST_INTEGER and value.is_integer() else value


def refuse_constant(name: str) -> NoReturn:
    """For ``parse_constant``: NaN and the infinities are no JSON."""
    raise ValueError(f"{name} is not a JSON value")
