"""The version of a payload's schema as SQL: the rule of `outbox.schema_version`, so that rows need not be read."""

from sqlalchemy import Connection

from outbox.message import LARGEST_INTEGER, MAX_DELIVERED_BYTES
from outbox.schema_version import ABSENT, NAME

_FIRST_POSTGRESQL_WITH_INPUT_IS_VALID = (16,)

# A payload of an odd shape or size counts as version 1: it is to be refused. Each CASE keeps what follows from being
# computed of a payload for which it would be an error.
_SQLITE = f"""
    CASE WHEN octet_length(m.payload) <= {MAX_DELIVERED_BYTES} AND json_valid(m.payload) THEN (
        SELECT CASE WHEN count(*) = 1 AND max(n) BETWEEN 1 AND {LARGEST_INTEGER} AND max(n) = CAST(max(n) AS INTEGER)
                    THEN CAST(max(n) AS INTEGER) ELSE {ABSENT} END
        FROM (SELECT CASE WHEN pair.type IN ('integer', 'real') THEN pair.value END AS n
              FROM json_each(m.payload) AS pair WHERE pair.key = '{NAME}') AS numbers
    ) ELSE {ABSENT} END
"""  # noqa: S608 - constants
# Right for a number written plainly, with no other of that name before it: all that one which cannot tell JSON can do.
_WRITTEN_PLAINLY = rf"""
    CASE WHEN CAST(substring(m.payload from '"{NAME}"\s*:\s*([0-9]{{1,16}})\s*[,}}]') AS bigint)
              BETWEEN 1 AND {LARGEST_INTEGER}
         THEN CAST(substring(m.payload from '"{NAME}"\s*:\s*([0-9]{{1,16}})\s*[,}}]') AS bigint)
    ELSE {ABSENT} END
"""
_OLD_POSTGRESQL = f"""
    CASE WHEN octet_length(m.payload) > {MAX_DELIVERED_BYTES} THEN {ABSENT} ELSE {_WRITTEN_PLAINLY} END
"""
# As a double, because that is what every other reader makes of a number with a point or an exponent. ``json`` keeps a
# name that stands twice; ``jsonb`` would keep the last, yet takes no number and no text that could not be read below.
_POSTGRESQL = f"""
    CASE WHEN octet_length(m.payload) > {MAX_DELIVERED_BYTES} OR NOT pg_input_is_valid(m.payload, 'json') THEN {ABSENT}
         WHEN NOT pg_input_is_valid(m.payload, 'jsonb') THEN {_WRITTEN_PLAINLY}
    ELSE (
        SELECT CASE WHEN count(*) = 1 AND max(d) BETWEEN 1 AND {LARGEST_INTEGER} AND max(d) = trunc(max(d))
                    THEN CAST(max(d) AS bigint) ELSE {ABSENT} END
        FROM (SELECT CASE WHEN n BETWEEN 0.5 AND {LARGEST_INTEGER + 1} THEN CAST(n AS double precision) END AS d
              FROM (SELECT CASE json_typeof(pair.value) WHEN 'number' THEN CAST(CAST(pair.value AS text) AS numeric) END
                           AS n
                    FROM json_each(CASE json_typeof(CAST(m.payload AS json)) WHEN 'object'
                                        THEN CAST(m.payload AS json) ELSE '{{}}' END) AS pair
                    WHERE pair.key = '{NAME}') AS numbers) AS doubles
    ) END
"""  # noqa: S608 - constants


def version_of_payload(connection: Connection) -> str:
    """An expression for the version of the payload of the message ``m``."""
    if connection.dialect.name == "sqlite":
        return _SQLITE
    release = connection.dialect.server_version_info or ()
    return _POSTGRESQL if release >= _FIRST_POSTGRESQL_WITH_INPUT_IS_VALID else _OLD_POSTGRESQL
