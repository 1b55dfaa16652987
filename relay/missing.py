"""What to do about a store that is not there: where one was before, an empty one in its place is no cure."""

from collections.abc import Iterator
from contextlib import contextmanager

from outbox.statements import DrainedInto
from relay.destinations.port import GatewayUnreachableError, named
from relay.destinations.schemes import kind_of, known_as, shown_whole
from relay.errors import UnreachableError
from relay.stores import Found, examine
from relay.topics import MIRROR

JOIN = "`relay run --new-gateway`, then `relay replay --all`"
ANEW = f"`relay init --new-gateway`, {JOIN}"


def missing_mirror(nothing: str, into: DrainedInto) -> str:
    """``nothing`` is what is not there; ``into`` the gateway that the outbox remembers."""
    gateway = named(into.gateway_identity, into.gateway_url or "")
    return f"{nothing}; this outbox drains into {gateway}: mount or restore it, or, if it is lost for good, {ANEW}"


def missing_source(nothing: str, assistant: str) -> str:
    """``assistant`` is the one whose invites the gateway mirrors."""
    return (
        f"{nothing}, and the gateway mirrors the invites of assistant {assistant}: if that was this one, mount or "
        f"restore it; for an empty one in its place, {ANEW}"
    )


def nothing_of_the_source(found: Found, gateway: str) -> str:
    """What to say where the assistant's store is not there; ``gateway`` is the URL of the side that may remember it."""
    assistant = _mirrored_by(gateway) if kind_of(gateway).is_database else None
    return found.never_made if assistant is None else missing_source(str(found.nothing), assistant)


@contextmanager
def with_what_is_remembered(into: DrainedInto | None) -> Iterator[None]:
    """Has a `GatewayUnreachableError` of a gateway that is not there say what the outbox remembers of it."""
    try:
        yield
    except GatewayUnreachableError as error:
        if error.nothing is None or into is None:
            raise
        raise type(error)(missing_mirror(error.nothing, into)) from error


def was_at(into: DrainedInto, gateway: str) -> bool:
    """Whether the gateway that the outbox remembers was at that URL."""
    return into.gateway_url is not None and shown_whole(into.gateway_url) == shown_whole(known_as(gateway))


def _mirrored_by(gateway: str) -> str | None:
    try:
        facts = examine(gateway, MIRROR).facts
    except UnreachableError:
        return None
    return None if facts is None else facts.drained_from
