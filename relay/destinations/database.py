"""The gateway's database opened by the relay itself."""

from collections.abc import Callable, Mapping, Sequence

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import DBAPIError

from gateway_store import ContactMissingError, MirrorRefusedError, NewerPayloadError
from gateway_store.errors import OtherAssistantError
from gateway_store.identity import StoreFacts, claim
from gateway_store.invites.mirror import CACHE_MIB
from gateway_store.invites.payload import SCHEMA_VERSION
from gateway_store.probe import StoreReadOnlyError, probe_store
from outbox import DELIVERED, DatabaseMissingError, Outcome, Verdict, open_engine
from outbox.database.driver import is_of_the_database
from outbox.database.engine import once_more_if_cut_off
from outbox.database.postgresql import DRIVER, LONGEST_SECONDS
from outbox.database.store_name import name_store, store_of
from outbox.fence import Prove
from outbox.redact import reason_of
from relay.destinations.answered import Answered
from relay.destinations.kind import Kind
from relay.destinations.port import (
    Delivery,
    GatewayFacts,
    GatewayReadOnlyError,
    GatewayUnreachableError,
    GatewayUnusableError,
    Handle,
)
from relay.errors import OtherGatewayError
from relay.stores import Found, examined
from relay.topics import APPLIERS, MIRROR, Apply
from relay.urls import check_url, gateways, shown, shown_whole

# A batch takes a small part of it, once it has the lock.
SQLITE_WORK_SECONDS = 5.0
THE_STORE = "the gateway's database"


class DatabaseDestination:
    """A gateway that is a database. It is never created here: a missing one is unreachable, not empty."""

    def __init__(self, url: str, appliers: Mapping[str, Apply], busy_timeout: float, *, name: str = "") -> None:
        self._engine = open_engine(url, create=False, busy_timeout=busy_timeout, relay=True, cache_mib=CACHE_MIB)
        self._patience = busy_timeout
        if name:
            name_store(self._engine, name)
        self._appliers = appliers
        self._admitted: tuple[str, str] | None = None
        self._batches = self._counted = 0
        self._answered = Answered()

    @property
    def batches(self) -> int:
        return self._batches

    def send(self, batch: Sequence[Delivery], prove: Prove) -> Handle:
        """Its transactions have ended on return."""
        return self._answered.keep(self._deliver(batch, prove))

    def collect(self, handle: Handle) -> list[Verdict]:
        return self._answered.collect(handle)

    def _deliver(self, batch: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        try:
            return self._apply(batch, prove)
        except (DatabaseMissingError, OtherGatewayError) as error:
            return [Verdict(Outcome.UNREACHABLE, _reason(error))] * len(batch)
        except DBAPIError as error:
            if not is_of_the_database(error):
                raise
            return [Verdict(Outcome.UNREACHABLE, _reason(error))] * len(batch)

    def probe(self) -> GatewayFacts:
        return self._asked(self._probe)

    def _probe(self) -> StoreFacts:
        found = self._examined()
        if found.nothing is not None or found.problem is not None:
            # A missing file may only be unmounted, which passes.
            missing = found.missing is not None
            error = (
                GatewayUnreachableError(f"{found.named}: {found.never_made}")
                if missing
                else GatewayUnusableError(found.in_words)
            )
            error.nothing = found.nothing and f"{found.named}: {found.nothing}"
            raise error
        return probe_store(self._engine)

    def _examined(self) -> Found:
        try:
            return examined(self._engine, MIRROR, self._patience)
        except DBAPIError:
            # SQLite cannot even read some files that this user may not write; the probe tells why.
            probe_store(self._engine)
            raise

    def lacks(self) -> str | None:
        return None

    def claim(self, assistant: str, facts: GatewayFacts, *, take_over: bool) -> GatewayFacts:
        self._admitted = (str(facts.identity), assistant)
        return self._asked(lambda: probe_store(self._engine, lambda one: self._claim(one, assistant, take_over)))

    def _asked(self, question: Callable[[], StoreFacts]) -> GatewayFacts:
        try:
            found = once_more_if_cut_off(question)
        except StoreReadOnlyError as error:
            raise GatewayReadOnlyError(_reason(error)) from error
        except (DBAPIError, DatabaseMissingError, OtherGatewayError, OtherAssistantError) as error:
            raise GatewayUnreachableError(_reason(error)) from error
        return GatewayFacts(found.identity, found.drained_from, found.batches, SCHEMA_VERSION)

    def _claim(self, connection: Connection, assistant: str, take_over: bool) -> StoreFacts:
        found = claim(connection, assistant, take_over=take_over)
        self._admit(found)
        return found

    def _admit(self, facts: StoreFacts) -> None:
        """The file under a URL may have been replaced by another store's since the relay was told where to drain."""
        if self._admitted not in (None, (facts.identity, facts.drained_from)):
            raise OtherGatewayError(f"another gateway is in its place by now: {facts.identity}")
        self._counted = facts.batches

    def close(self) -> None:
        self._engine.dispose()

    def _apply(self, batch: Sequence[Delivery], prove: Prove) -> list[Verdict]:
        verdicts: dict[int, Verdict] = {}
        for topic in dict.fromkeys(one.topic for one in batch):
            of_topic = [position for position, one in enumerate(batch) if one.topic == topic]
            if topic not in self._appliers:
                refusal = Verdict(Outcome.REFUSED_FOR_GOOD, f"unknown topic {topic!r}; this gateway cannot apply it")
                verdicts |= dict.fromkeys(of_topic, refusal)
                continue
            results = self._appliers[topic](
                self._engine, [batch[position].payload for position in of_topic], admit=self._admit, prove=prove
            )
            # Only now: what was rolled back has counted nothing.
            self._batches = self._counted
            verdicts |= zip(of_topic, map(_verdict, results), strict=True)
        return [verdicts[position] for position in range(len(batch))]


def _reason(error: Exception) -> str:
    reason = reason_of(error)
    store = store_of(error)
    if "store_identity" in reason or "store_batches" in reason:
        return f"{store or THE_STORE} is of an older release of this program; run `relay init` ({reason})"
    return reason if store is None else f"{store}: {reason}"


def _verdict(result: object) -> Verdict:
    match result:
        case ContactMissingError():
            return Verdict(Outcome.REFUSED_FOR_NOW, str(result))
        case NewerPayloadError():
            return Verdict(Outcome.TOPIC_CLOSED, str(result), reads=result.reads)
        case MirrorRefusedError():
            return Verdict(Outcome.REFUSED_FOR_GOOD, str(result))
        case _:
            return DELIVERED


def _open(url: str, patience: float) -> DatabaseDestination:
    return DatabaseDestination(url, APPLIERS, patience, name=gateways(url))


def _answers_within(url: str, patience: float) -> float:
    return patience + (LONGEST_SECONDS if make_url(url).drivername == DRIVER else SQLITE_WORK_SECONDS)


KIND = Kind(check_url, _open, _answers_within, shown=shown, shown_whole=shown_whole, is_database=True, shows_rows=True)
