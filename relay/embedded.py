"""The gateway's database opened by the relay itself."""

from collections.abc import Mapping, Sequence

from sqlalchemy.exc import DatabaseError, DBAPIError, InternalError, OperationalError, ProgrammingError

from gateway_store import ContactMissingError, MirrorRefusedError
from gateway_store.mirror import CACHE_MIB
from outbox import DELIVERED, DatabaseMissingError, Message, Outcome, Verdict, open_engine
from outbox.engine import once_more_if_cut_off, takes_writes, writing
from outbox.fence import Prove
from outbox.redact import reason_of
from relay.gateway import GatewayUnreachableError
from relay.topics import Apply


class EmbeddedGateway:
    """A gateway that is a database. It is never created here: a missing one is unreachable, not empty."""

    def __init__(self, url: str, appliers: Mapping[str, Apply], busy_timeout: float) -> None:
        self._engine = open_engine(url, create=False, busy_timeout=busy_timeout, relay=True, cache_mib=CACHE_MIB)
        self._appliers = appliers

    def deliver(self, messages: Sequence[Message], prove: Prove) -> list[Verdict]:
        try:
            return self._apply(messages, prove)
        except DatabaseMissingError as error:
            return [Verdict(Outcome.UNREACHABLE, reason_of(error))] * len(messages)
        except DBAPIError as error:
            if not _is_of_the_database(error):
                raise
            return [Verdict(Outcome.UNREACHABLE, reason_of(error))] * len(messages)

    def probe(self) -> None:
        try:
            once_more_if_cut_off(self._probe)
        except (DBAPIError, DatabaseMissingError) as error:
            raise GatewayUnreachableError(reason_of(error)) from error

    def close(self) -> None:
        self._engine.dispose()

    def _probe(self) -> None:
        with writing(self._engine) as connection:
            connection.exec_driver_sql("SELECT count(*) FROM (SELECT 1 FROM ingress_invites LIMIT 1) AS one")
            if not takes_writes(connection):
                raise GatewayUnreachableError("the gateway's database is read-only")

    def _apply(self, messages: Sequence[Message], prove: Prove) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        for topic in dict.fromkeys(message.topic for message in messages):
            of_topic = [message for message in messages if message.topic == topic]
            if topic not in self._appliers:
                refusal = Verdict(Outcome.REFUSED_FOR_GOOD, f"unknown topic {topic!r}; this gateway cannot apply it")
                verdicts |= {message.seq: refusal for message in of_topic}
                continue
            results = self._appliers[topic](self._engine, [message.payload for message in of_topic], prove=prove)
            verdicts |= {message.seq: _verdict(result) for message, result in zip(of_topic, results, strict=True)}
        return [verdicts[message.seq] for message in messages]


def _is_of_the_database(error: DBAPIError) -> bool:
    """Whether it is the database that cannot work now, whatever the message; `Topic.apply` takes care of the rows."""
    if isinstance(error, OperationalError):
        return True
    if isinstance(error, InternalError | ProgrammingError):
        # PostgreSQL: a transaction made read-only or ended, a table or a right that is not there. Class P0 is a
        # trigger's own doing.
        return getattr(error.orig, "sqlstate", None) is not None
    # A damaged SQLite file, or one that is no database, raises exactly this class; its subclasses are about a message.
    return type(error) is DatabaseError


def _verdict(result: object) -> Verdict:
    match result:
        case ContactMissingError():
            return Verdict(Outcome.REFUSED_FOR_NOW, str(result))
        case MirrorRefusedError():
            return Verdict(Outcome.REFUSED_FOR_GOOD, str(result))
        case _:
            return DELIVERED
