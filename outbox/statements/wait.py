"""Why messages wait: the reasons of those that were refused, and those that their destination is too old for."""

from typing import NamedTuple

from sqlalchemy import Connection, text

from outbox.database.driver import Sized
from outbox.message import Destination
from outbox.statements.schema_version import version_of_payload

# A key shorter than this may stand in a reason as a part of another word.
_SHORTEST_KEY = 8
# What is larger was not written by this program.
MAX_ERROR_BYTES = 8_000
# So many characters of a reason tell it from others, and are shown.
_REASON_CHARACTERS = 500
_LOOKED_AT = 1_000


class Reason(NamedTuple):
    """Why some messages are retrying; ``next_try_at`` is the soonest of theirs, and ``seq`` the lowest."""

    reason: str
    messages: int
    seq: int
    next_try_at: int | None


# Sizes are asked for before a text is read.
_REASONS = Sized(
    f"""
    SELECT reason, count(*) AS messages, min(seq) AS seq, min(available_at) AS next_try_at
    FROM (SELECT seq, available_at,
              CASE WHEN last_error IS NULL THEN ''
                   WHEN octet_length(last_error) > {MAX_ERROR_BYTES} THEN '(' || octet_length(last_error) || ' bytes)'
                   WHEN octet_length(key) BETWEEN {_SHORTEST_KEY} AND {MAX_ERROR_BYTES}
                   THEN replace(substr(last_error, 1, {_REASON_CHARACTERS}), key, '…')
                   ELSE substr(last_error, 1, {_REASON_CHARACTERS}) END AS reason
          FROM outbox_messages WHERE destination = :destination AND state = 'retrying') AS refused
    GROUP BY reason ORDER BY 2 DESC, 3 LIMIT :limit
    """  # noqa: S608 - constants
)


def retry_reasons(connection: Connection, destination: Destination, limit: int) -> list[Reason]:
    """The commonest reasons of retrying messages. A message's own key is left out of its reason: it would tell apart
    what is alike."""
    rows = _REASONS.rows(connection, destination=destination.value, limit=limit)
    return [Reason(*row) for row in rows]


def next_try_at(connection: Connection, destination: Destination) -> int | None:
    """When the first of the retrying messages is due."""
    found: int | None = connection.execute(
        text("SELECT min(available_at) FROM outbox_messages WHERE destination = :destination AND state = 'retrying'"),
        {"destination": destination.value},
    ).scalar_one()
    return found


def first_newer_than(connection: Connection, destination: Destination, topic: str, reads: int) -> int | None:
    """The lowest ``seq`` of pending messages with a payload of a later version, among the oldest and newest 1,000."""
    version = version_of_payload(connection)
    ends = [
        f"""
        SELECT * FROM (SELECT m.seq, m.payload FROM outbox_messages AS m
                       WHERE m.destination = :destination AND m.state = 'pending' AND m.topic = :topic
                       ORDER BY m.origin {order}, m.seq {order} LIMIT {_LOOKED_AT}) AS m
        WHERE {version} > :reads
        """  # noqa: S608 - constants
        for order in ("ASC", "DESC")
    ]
    query = Sized(f"SELECT min(seq) FROM ({ends[0]} UNION ALL {ends[1]}) AS newer")  # noqa: S608 - the above
    ((found,),) = query.rows(connection, destination=destination.value, topic=topic, reads=reads)
    return None if found is None else int(found)
