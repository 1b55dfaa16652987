"""What of a `Status` needs a person, in words that name the thing and the cure; and a relay's own view in one line."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from outbox.counted import counted
from outbox.leases import Relay
from outbox.redact import printable
from outbox.sightings import Sighting
from outbox.statements import DrainedInto
from relay.destinations.port import GatewayFacts
from relay.errors import OtherGatewayError
from relay.instants import CLOCKS_DIFFER_BY_MS, clock_in_words, in_iso_8601
from relay.introduction import refuse_another, wants_a_replay
from relay.noted import standing_and_last

if TYPE_CHECKING:
    from relay.status import Status

# Of many relays with one trouble so many are named.
MOST_NAMED = 5


def warnings_of(status: "Status") -> list[str]:
    """Nothing that heals by itself while a relay works."""
    found = [*status.wrong, *_of_the_clock(status), *_of_waiting(status)]
    if status.dead:
        found.append(f"{counted(status.dead, 'message is', 'messages are')} dead; see `relay dead list`")
    found += _of_the_gateway(status)
    found += _of_each(status.relays, lambda relay: _of_what_it_says(relay, status))
    found += _of_each(_absent(status, Sighting.STOPPED), _of_a_stopped_one)
    found += _of_each(_absent(status, Sighting.SILENT), lambda relay: _of_a_silent_one(relay, status.looked_at))
    return found


def wrong_with(into: DrainedInto | None, facts: GatewayFacts, assistant: str, url: str) -> list[str]:
    """What is wrong with a gateway that answers, and an outbox that was drained ``into`` one."""
    try:
        refuse_another(into, facts, assistant, url)
    except OtherGatewayError as error:
        return [str(error)]
    if into is None or not wants_a_replay(into, facts):
        return []
    if facts.batches < into.batches_seen:
        return [
            f"the gateway was restored from an old copy: it has applied {facts.batches} batches, and had applied "
            f"{into.batches_seen} before; `relay replay --all` brings back what the copy lacks"
        ]
    return [
        f"the gateway lacks what was delivered before {in_iso_8601(into.restored_seen_at)}: then it was made this "
        "outbox's by `relay run --new-gateway`, or was seen to be restored from an old copy; run `relay replay --all`"
    ]


def _of_the_clock(status: "Status") -> Iterator[str]:
    if status.from_the_future is not None:
        yield (
            f"message {status.from_the_future} is from the future: it was enqueued at a time that has not come yet, "
            "and is delivered all the same; set the clock of the machine that enqueues"
        )
    if status.clock_ahead_ms:
        yield (
            f"the clock of this machine is {clock_in_words(status.clock_ahead_ms)} the database's "
            f"({status.assistant_db}); set the one that is wrong"
        )


def _of_waiting(status: "Status") -> Iterator[str]:
    waiting = status.pending + status.retrying
    if waiting and not status.live_relays:
        last = max(_absent(status, Sighting.UNSEEN, Sighting.GONE), key=lambda relay: relay.seen_at, default=None)
        seen = "" if last is None else f"; the last was {relay_line(last)}"
        waits = counted(waiting, "message waits", "messages wait")
        yield f"{waits} and no relay lives; start one with `relay run`{seen}"


def _of_the_gateway(status: "Status") -> Iterator[str]:
    if status.gateway == "read-only":
        yield f"the gateway cannot be written to, so nothing is delivered: {status.gateway_problem}"
    elif status.gateway_problem:
        yield f"the gateway is down: {status.gateway_problem}"
    if status.gateway_lacks:
        yield f"the gateway answers, and takes no message: {status.gateway_lacks}; upgrade the gateway"
    for closed in status.closed:
        yield (
            f"the topic {closed.topic} is closed: message {closed.seq}, among others, has a payload of a later version "
            f"than {closed.reads}, the last that this gateway reads; upgrade the gateway, nothing is lost until then"
        )


def _absent(status: "Status", *how: Sighting) -> list[Relay]:
    return [relay for relay, its in status.absent_relays if its in how]


def _of_each(relays: Sequence[Relay], of: Callable[[Relay], list[str]]) -> list[str]:
    found = [warnings for relay in relays if (warnings := of(relay))]
    said = [warning for warnings in found[:MOST_NAMED] for warning in warnings]
    more = len(found) - MOST_NAMED
    return [*said, f"and so it is with {counted(more, 'more relay', 'more relays')}"] if more > 0 else said


def _of_what_it_says(relay: Relay, status: "Status") -> list[str]:
    standing, error = standing_and_last(relay.last_error)
    found = []
    if relay.down_since is not None and status.gateway != "down":
        into = f" ({relay.gateway})" if relay.gateway else ""
        found.append(
            f"relay {relay.id} says that its gateway{into} is down since {in_iso_8601(relay.down_since)}: "
            f"{error or 'without a reason'}; this command's own probe of {status.gateway_url} says that it is "
            f"{status.gateway}. Unless the relay soon finds it up, compare the two: URL, user, rights, disk"
        )
    if standing is not None:
        found.append(f"relay {relay.id} says: {standing}")
    if relay.seen_at > status.looked_at + CLOCKS_DIFFER_BY_MS:
        found.append(_of_a_clock_ahead(relay))
    return found


def _of_a_stopped_one(relay: Relay) -> list[str]:
    since = in_iso_8601(relay.seen_at)
    return [
        f"relay {relay.id} (process {relay.pid}) was stopped by a signal, after {since}, and drains nothing; "
        f"`kill -CONT {relay.pid}` lets it go on, `kill -KILL {relay.pid}` ends it"
    ]


def _of_a_silent_one(relay: Relay, now: int) -> list[str]:
    if relay.seen_at > now:
        return [_of_a_clock_ahead(relay)]
    since = in_iso_8601(relay.seen_at)
    return [
        f"relay {relay.id} (process {relay.pid}) is there, and has not shown itself since {since}: "
        "it hangs, cannot write to the assistant's database, or its clock is behind; see its log, or start it anew"
    ]


def _of_a_clock_ahead(relay: Relay) -> str:
    return (
        f"relay {relay.id} was seen at {in_iso_8601(relay.seen_at)}, which has not come yet: its clock and this one "
        "disagree; set the one that is wrong"
    )


def relay_line(relay: Relay) -> str:
    """What a relay says of itself, for an operator to read."""
    parts = [f"{relay.id}, since {in_iso_8601(relay.started_at)}", f"version {relay.version}"]
    if relay.gateway:
        parts.append(f"into {relay.gateway}")
    parts.append(f"seen at {in_iso_8601(relay.seen_at)}")
    if relay.last_delivered_at is not None:
        parts.append(f"last delivered at {in_iso_8601(relay.last_delivered_at)}")
    if relay.down_since is not None:
        parts.append(f"its gateway down since {in_iso_8601(relay.down_since)}")
    standing, error = standing_and_last(relay.last_error)
    if standing is not None:
        parts.append(f"needs a person: {standing}")
    if error is not None:
        parts.append(f"last error: {error}")
    return printable(", ".join(parts))
