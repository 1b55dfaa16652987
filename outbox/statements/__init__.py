"""Every SQL statement on the outbox's tables, one a function, named for what it does.

States stand as literals, never as parameters: a partial index is used only where its condition is seen in the text.
All run in the caller's transaction.
"""

from outbox.statements.change import (
    CHANNEL,
    delete_settled_before,
    insert_messages,
    mark_dead,
    mark_delivered,
    mark_retrying,
    notify,
    revive_dead,
    set_attempts,
)
from outbox.statements.due import Found, NewerThan, anything_due, one_unsettled, pending, retries_due, under_way
from outbox.statements.lease import (
    delete_leases,
    delete_relay,
    delete_relays_unseen_since,
    extend_leases,
    lease_clock,
    leases,
    lock_leases,
    put_leases,
    put_relay,
    relays,
    tokens_standing,
)
from outbox.statements.look import (
    count_by_state,
    count_unsettled_up_to,
    dead_messages,
    message_by_seq,
    oldest_unsettled_at,
    open_replayed,
    replayed_just_now,
    unsettled_keys,
)
from outbox.statements.route import DrainedInto, drained_into, identity, put_route, see_batches, set_batches

__all__ = [
    "CHANNEL",
    "DrainedInto",
    "Found",
    "NewerThan",
    "anything_due",
    "count_by_state",
    "count_unsettled_up_to",
    "dead_messages",
    "delete_leases",
    "delete_relay",
    "delete_relays_unseen_since",
    "delete_settled_before",
    "drained_into",
    "extend_leases",
    "identity",
    "insert_messages",
    "lease_clock",
    "leases",
    "lock_leases",
    "mark_dead",
    "mark_delivered",
    "mark_retrying",
    "message_by_seq",
    "notify",
    "oldest_unsettled_at",
    "one_unsettled",
    "open_replayed",
    "pending",
    "put_leases",
    "put_relay",
    "put_route",
    "relays",
    "replayed_just_now",
    "retries_due",
    "revive_dead",
    "see_batches",
    "set_attempts",
    "set_batches",
    "tokens_standing",
    "under_way",
    "unsettled_keys",
]
