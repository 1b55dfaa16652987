"""What this release needs of the outbox's tables, as its scripts leave them.

Not the triggers against a leap of ``seq``: without them an upgrade mends what they would have refused.
"""

from outbox.database.migrations.tables import INDEXES, MESSAGES
from outbox.database.shape import Made, Needs

_TEXTS = {
    MESSAGES: ("topic", "key", "payload", "origin", "state", "last_error", "destination"),
    "outbox_leases": ("destination", "owner", "token"),
    "outbox_relays": ("id", "destination", "host", "host_name", "version", "gateway", "last_error"),
    "outbox_identity": ("id",),
    "outbox_routes": ("destination", "gateway_identity", "gateway_url"),
}
_INTEGERS = {
    MESSAGES: (
        *("seq", "version", "shard", "enqueued_at", "attempts", "available_at", "settled_at"),
        *("refused_for_ms", "refused_at", "crashes"),
    ),
    "outbox_leases": ("shard", "expires_at", "length_ms"),
    "outbox_relays": ("pid", "pid_started", "started_at", "seen_at", "down_since", "last_delivered_at"),
    "outbox_identity": ("one", "made_at"),
    "outbox_routes": ("batches_seen", "restored_seen_at", "first_drained_at"),
}
_KEYS: dict[str, tuple[str, ...]] = {
    MESSAGES: ("seq",),
    "outbox_leases": ("destination", "shard"),
    "outbox_relays": ("id",),
    "outbox_identity": ("one",),
    "outbox_routes": ("destination",),
}


def needs(_dialect: str) -> Needs:
    made = [Made("index", name, MESSAGES, f"CREATE INDEX {name} ON {MESSAGES} {of}") for name, of in INDEXES.items()]
    columns = {name: dict.fromkeys(_TEXTS[name], "text") | dict.fromkeys(_INTEGERS[name], "integer") for name in _KEYS}
    return Needs(columns, _KEYS, made, with_a_row=("outbox_identity",))
