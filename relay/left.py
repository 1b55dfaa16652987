"""What a drain of all that was due leaves behind: an outbox that is not empty is never called so."""

from sqlalchemy import Engine

from outbox import Destination, State, reading, statements
from outbox.counted import counted
from relay.drain import Drain
from relay.errors import UnrepairedError
from relay.instants import in_iso_8601


def refuse_what_cannot_be_drained(drain: Drain) -> None:
    """Raises `UnrepairedError` where ``drain`` found something due that it leaves alone."""
    if drain.apart.seqs:
        raise UnrepairedError(
            f"{counted(len(drain.apart.seqs), 'message', 'messages')} cannot be settled, such as "
            f"{min(drain.apart.seqs)}; see the log for what refuses their rows"
        )
    for topic, reason in drain.closed.reasons.items():
        raise UnrepairedError(
            f"messages of {topic} wait for a newer gateway: {reason}. Nothing was lost; upgrade it and run this again"
        )


def refuse_what_is_left(source: Engine) -> None:
    """Raises `UnrepairedError` where a message is dead, or was refused and waits for its next try.

    What is pending now was enqueued since.
    """
    with reading(source) as connection:
        count = statements.count_by_state(connection, Destination.GATEWAY)
        next_try_at = statements.next_try_at(connection, Destination.GATEWAY)
    dead, retrying = count.get(State.DEAD, 0), count.get(State.RETRYING, 0)
    left = []
    if dead:
        left.append(f"{counted(dead, 'message is', 'messages are')} dead, see `relay dead list`")
    if retrying:
        left.append(
            f"{counted(retrying, 'message was', 'messages were')} refused for now, see `relay status`; the next try is "
            f"due at {in_iso_8601(next_try_at)}, by `relay run`"
        )
    if left:
        raise UnrepairedError(f"all that was due is delivered, and the outbox is not empty: {'; '.join(left)}")
