"""What waits already, before a row is enqueued again."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row

from outbox.database.driver import exact_text
from outbox.database.rows import ForEachRow, ForKeys
from outbox.message import Destination

_NEWEST_OF_EACH_VERSION = {
    dialect: ForKeys(
        f"""
        SELECT seq, key, version, state, {size} AS size FROM outbox_messages
        WHERE destination = {{given}} AND topic = {{given}} AND key {{among}}
          AND state IN ('pending', 'retrying', 'dead')
        ORDER BY seq
        """  # noqa: S608 - constants
    )
    for dialect, size in {"sqlite": "length(CAST(payload AS BLOB))", "postgresql": "octet_length(payload)"}.items()
}
_PAYLOADS = ForKeys("SELECT seq, payload FROM outbox_messages WHERE seq {among}")
_BRING_FORWARD = ForEachRow(
    """
    UPDATE outbox_messages AS m SET state = 'pending', origin = 'replay'
    {from_rows} WHERE m.seq = {seq} AND m.state = 'retrying'
    """,
    {"seq": "bigint"},
)


def waiting_states(
    connection: Connection, destination: Destination, topic: str, states: Sequence[tuple[str, int, str]]
) -> dict[str, tuple[int, str]]:
    """Of rows, given as (key, version, payload), those of which a message waits that holds just that: by key, its
    ``seq`` and state.

    It must be the last of its version: a later one with other contents would overtake it, a later dead one stop it.
    """
    newest: dict[tuple[str, int], Row[Any]] = {}
    keys = [key for key, _, _ in states]
    for one in _NEWEST_OF_EACH_VERSION[connection.dialect.name].run(connection, keys, destination.value, topic):
        newest[one.key, one.version] = one
    found = {}
    for key, version, payload in states:
        row = newest.get((key, version))
        if row is not None and row.state != "dead" and row.size == len(payload.encode()):
            found[row.seq] = (key, row.state, payload)
    # Read only where the size is that of the row's own: what others wrote may be of any size.
    payloads = exact_text(connection, lambda: {one.seq: one.payload for one in _PAYLOADS.run(connection, found)})
    return {key: (seq, state) for seq, (key, state, payload) in found.items() if payloads.get(seq) == payload}


def bring_forward(connection: Connection, seqs: Iterable[int]) -> None:
    """Has messages that wait for their next try tried again now, behind all that is live; their attempts stay."""
    _BRING_FORWARD.run(connection, [(seq,) for seq in seqs])
