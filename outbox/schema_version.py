"""The version of a payload's schema: one rule for all who read it, and `outbox.statements.schema_version` says the same
in SQL.

It is an integer from 1 to 2^53 - 1, in any form that JSON has for one: 2, 2.0, 2e0. Absent or null it is 1. A payload
that says anything else, or says it twice, has no version, and is refused for good.
"""

import json
from typing import Any

from outbox.json_values import json_integer, refuse_constant
from outbox.message import LARGEST_INTEGER

NAME = "schemaVersion"
ABSENT = 1
# Of what is no version, so much is shown.
_MOST_SHOWN = 40


def schema_version(said: object) -> int | None:
    """What ``said``, as JSON gives it, means; None where it is no version."""
    if said is None:
        return ABSENT
    if isinstance(said, float) and said.is_integer():
        said = int(said)
    return said if type(said) is int and 1 <= said <= LARGEST_INTEGER else None


def schema_version_of(payload: str) -> int:
    """The version of a payload in JSON text. Of one that has none it is 1: nobody waits with what is to be refused."""
    try:
        found = _DECODER.decode(payload)
    except (ValueError, RecursionError):
        return ABSENT
    said = said_in(found)
    return (schema_version(said[0]) or ABSENT) if len(said) == 1 else ABSENT


def why_no_version(said: object) -> str:
    """The reason to refuse a payload that says so, for one who reads it."""
    shown = json.dumps(said)[:_MOST_SHOWN] if isinstance(said, str | int | float) else "a list or an object"
    return f"its payload says schemaVersion {shown}, which is no version: it must be an integer from 1 to 2^53-1"


def said_in(pairs: object) -> list[Any]:
    """Every version that an object says which was read as a list of its pairs; an array has no pairs."""
    return [pair[1] for pair in pairs if isinstance(pair, tuple) and pair[0] == NAME] if isinstance(pairs, list) else []


_DECODER = json.JSONDecoder(object_pairs_hook=list, parse_int=json_integer, parse_constant=refuse_constant)
