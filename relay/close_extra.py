"""Revoking at the gateway what only the gateway has."""

from dataclasses import dataclass, field

from sqlalchemy import Engine

from gateway_store.identity import StoreFacts
from outbox import Destination, reading, statements
from relay.destinations.port import GatewayFacts
from relay.id_pages import IdPages
from relay.introduction import refuse_another
from relay.topics import INVITES, Topic


@dataclass(slots=True)
class Closed:
    """How many were revoked, how many the assistant has by now, and why others stay as they are."""

    revoked: int = 0
    passed_over: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def close_extra(source: Engine, mirror: Engine, url: str, extra: IdPages, topic: Topic = INVITES) -> Closed:
    """Revokes rows that were found at the gateway alone, a page a transaction.

    Each is looked up in the assistant's store once more, just before. Raises `OtherGatewayError` where the gateway,
    shown as ``url``, is not the one of this outbox: all that it has would be extra.
    """
    with reading(source) as connection:
        assistant = statements.identity(connection)
        into = statements.drained_into(connection, Destination.GATEWAY)

    def admit(facts: StoreFacts) -> None:
        refuse_another(into, GatewayFacts(facts.identity, facts.drained_from, facts.batches), assistant, url)

    closed = Closed()
    for page in extra:
        with reading(source) as connection:
            ours = topic.source.by_id(connection, page)
        ids = [id_ for id_ in page if id_ not in ours]
        refused = topic.close(mirror, ids, admit=admit)
        closed.passed_over += len(page) - len(ids)
        closed.refused |= refused
        closed.revoked += len(ids) - len(refused)
    return closed
